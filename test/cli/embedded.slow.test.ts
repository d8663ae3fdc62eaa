import { randomUUID } from 'node:crypto'
import { existsSync, realpathSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import t from '../run/tap.js'
import { startEmbedded } from '../../src/database/embedded/embedded.js'
import { isAlive } from '../../src/database/embedded/postmaster.js'
import { tags } from '../fixtures/migrations.js'
import { refused, run, start, tables } from './run.js'

const migrate = 'src/cli/migrate.ts'
const rollback = 'src/cli/rollback.ts'
const newest = String(tags.at(-1))

// Directly in the temporary directory, which the user that runs PostgreSQL for root can enter.
const DATA_DIR = join(tmpdir(), `cli-test-${randomUUID()}`)
const postmaster = async () => Number(
  (await readFile(join(DATA_DIR, 'postgres/postmaster.pid'), 'utf8')).split('\n')[0]
)
t.teardown(async () => {
  for (const path of [realpathSync(join(DATA_DIR, 'postgres')), DATA_DIR]) await rm(path, { recursive: true })
})

await t.test('the embedded database is started for the command and stopped after it', async (t) => {
  t.match(await run(t, [migrate], { DATA_DIR }), { code: 0, stdout: `Applied ${tags.join(', ')}.\n` })
  t.notOk(existsSync(join(DATA_DIR, 'postgres/postmaster.pid')))
})

await t.test('a signal stops the embedded database too', async (t) => {
  const { child, ended, printed } = start(t, [rollback], { DATA_DIR })
  await printed('Type its name to go on: ')
  const pid = await postmaster()
  // npm sends a second signal, which must not interrupt the end. Either may arrive first.
  child.kill('SIGTERM')
  child.kill('SIGINT')
  const { code, stderr } = await ended
  t.ok([128 + constants.signals.SIGTERM, 128 + constants.signals.SIGINT].includes(code), `exit code ${code}`)
  t.equal(stderr, '')
  t.notOk(isAlive(pid))
})

await t.test('a command refuses a data directory that a running server uses', async (t) => {
  const server = await startEmbedded(DATA_DIR)
  t.teardown(async () => await server.stop())
  refused(t, await run(t, [rollback, '--yes'], { DATA_DIR }), /in use by another running server/)
  t.ok((await tables(server.url)).includes('tenant_configs'), 'nothing is undone')
})

await t.test('rollback --yes does not prompt', async (t) => {
  t.match(await run(t, [rollback, '--yes'], { DATA_DIR }), { code: 0, stdout: `Undid ${newest}.\n`, stderr: '' })
})
