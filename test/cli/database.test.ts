import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, realpathSync } from 'node:fs'
import { readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { startEmbedded } from '../../src/db/embedded.js'
import { isAlive } from '../../src/db/postmaster.js'
import { createDatabase, query } from '../helper.js'
import { refused, run, start } from './run.js'

const migrate = 'src/cli/migrate.ts'
const rollback = 'src/cli/rollback.ts'
const newest = '0000_tenant_configs'

const tables = async (url: string) => (await query(url, "select tablename from pg_tables where schemaname = 'public' order by 1")).map(({ tablename }) => tablename)

/** Rolls back with this answer at the prompt. */
async function answered (t: Test, url: string, answer: string) {
  const { child, ended, printed } = start(t, [rollback], { DATABASE_URL: url })
  await printed('Type its name to go on: ')
  child.stdin.end(answer)
  return await ended
}

await t.test('up on a database of yours, and down when the name of the migration is typed', async (t) => {
  const url = await createDatabase(t, { empty: true })
  const env = { DATABASE_URL: url }
  t.match(await run(t, [migrate], env), { code: 0, stdout: `Applied ${newest}.\n`, stderr: '' })
  t.match(await run(t, [migrate], env), { code: 0, stdout: 'The schema is up to date.\n', stderr: '' })
  for (const answer of ['', 'yes\n']) {
    t.match(await answered(t, url, answer), { code: 1, stderr: `That is not ${newest}: nothing was undone.\n` })
  }
  t.same(await tables(url), ['tenant_configs', 'vault_keys'])
  t.match(await answered(t, url, `${newest}\n`), { code: 0, stdout: new RegExp(`This undoes ${newest} and deletes .*Undid ${newest}\\.\n$`, 's') })
  t.same(await tables(url), [])
  t.match(await run(t, [rollback, '--yes'], env), { code: 0, stdout: 'There is no migration to undo.\n', stderr: '' })
})

await t.test('a database that goes away while the prompt waits', async (t) => {
  const url = await createDatabase(t)
  const { child, ended, printed } = start(t, [rollback], { DATABASE_URL: url })
  await printed('Type its name to go on: ')
  await query(url, 'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()')
  child.stdin.end(`${newest}\n`)
  const { code, stderr } = await ended
  t.equal(code, 1)
  t.match(stderr, /connection/i)
  t.notMatch(stderr, /^ {4}at /m)
  t.same(await tables(url), ['tenant_configs', 'vault_keys'])
})

await t.test('a database that is not there, and options that are not', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  const url = `postgres://user:canary@127.0.0.1:${typeof address === 'object' ? address?.port : ''}/x`
  const failed = await run(t, [migrate], { DATABASE_URL: url })
  refused(t, failed, /ECONNREFUSED/)
  t.notMatch(failed.stderr, /canary/)
  refused(t, await run(t, [migrate, '--now']), /--now.*npm run db:migrate/s)
})

await t.test('on the embedded database', async (t) => {
  // Directly under the temporary directory, where the user that runs PostgreSQL for root can enter.
  const DATA_DIR = join(tmpdir(), `cli-test-${randomUUID()}`)
  const postmaster = async () => Number((await readFile(join(DATA_DIR, 'postgres/postmaster.pid'), 'utf8')).split('\n')[0])
  t.teardown(async () => {
    for (const path of [realpathSync(join(DATA_DIR, 'postgres')), DATA_DIR]) await rm(path, { recursive: true })
  })
  t.match(await run(t, [migrate], { DATA_DIR }), { code: 0, stdout: `Applied ${newest}.\n` })
  t.notOk(existsSync(join(DATA_DIR, 'postgres/postmaster.pid')), 'it is stopped in the end')

  await t.test('a signal stops it too', async (t) => {
    const { child, ended, printed } = start(t, [rollback], { DATA_DIR })
    await printed('Type its name to go on: ')
    const pid = await postmaster()
    // A second one, as npm sends it, does not cut it short; which of them comes first is not ours to say.
    child.kill('SIGTERM')
    child.kill('SIGINT')
    const { code, stderr } = await ended
    t.ok([128 + constants.signals.SIGTERM, 128 + constants.signals.SIGINT].includes(code), `exit code ${code}`)
    t.equal(stderr, '')
    t.notOk(isAlive(pid))
  })

  await t.test('while a server runs on it, it is left alone', async (t) => {
    const server = await startEmbedded(DATA_DIR)
    t.teardown(async () => await server.stop())
    refused(t, await run(t, [rollback, '--yes'], { DATA_DIR }), /in use by another running server/)
    t.same(await tables(server.url), ['tenant_configs', 'vault_keys'])
  })

  t.match(await run(t, [rollback, '--yes'], { DATA_DIR }), { code: 0, stdout: `Undid ${newest}.\n`, stderr: '' })
})
