import { once } from 'node:events'
import { createServer } from 'node:net'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { createDatabase, makeUnreachable } from '../helper.js'
import { rollback as undo } from '../../src/database/migrations/migrations.js'
import { tags } from '../fixtures/migrations.js'
import { refused, run, start, tables } from './run.js'

const migrate = 'src/cli/migrate.ts'
const rollback = 'src/cli/rollback.ts'
const newest = String(tags.at(-1))
const added = ['service_keys']
const all = [
  'account_states', 'audit_checkpoints', 'audit_log', 'audit_outbox', 'config_count_changes', 'config_counts',
  'events_ended', 'events_outbox', 'idempotency_keys', 'leases', 'oauth_states', 'onboardings', 'phone_callbacks',
  'phone_numbers', 'service_secrets', 'tenant_config_versions', 'tenant_configs', 'token_watch', 'vault_keys',
  'verified_identities', 'version_policy', 'webhook_deliveries', ...added
].sort()
const before = all.filter((name) => !added.includes(name))

/** Rolls back with this answer to the prompt. */
async function answered (t: Test, url: string, answer: string) {
  const { child, ended, printed } = start(t, [rollback], { DATABASE_URL: url })
  await printed('Type its name to go on: ')
  child.stdin.end(answer)
  return await ended
}

await t.test('migrate applies all migrations; rollback undoes one after its name is typed', async (t) => {
  const url = await createDatabase(t, { empty: true })
  const env = { DATABASE_URL: url }
  t.match(await run(t, [migrate], env), { code: 0, stdout: `Applied ${tags.join(', ')}.\n`, stderr: '' })
  t.match(await run(t, [migrate], env), { code: 0, stdout: 'The schema is up to date.\n', stderr: '' })
  for (const answer of ['', 'yes\n']) {
    t.match(await answered(t, url, answer), { code: 1, stderr: `That is not ${newest}: nothing was undone.\n` })
  }
  t.same(await tables(url), all)
  for (const [name, left] of [[newest, before], ['0000_tenant_configs', []]] as const) {
    t.match(await answered(t, url, `${name}\n`), {
      code: 0,
      stdout: new RegExp(`This undoes ${name} and deletes .*Undid ${name}\\.\n$`, 's')
    })
    t.same(await tables(url), left)
    for (const tag of tags.slice(1, -1).toReversed()) await undo(url, async (name) => name === tag)
  }
  t.match(await run(t, [rollback, '--yes'], env), { code: 0, stdout: 'There is no migration to undo.\n', stderr: '' })
})

await t.test('an open prompt of rollback does not block a migration', async (t) => {
  const url = await createDatabase(t)
  const { child, ended, printed } = start(t, [rollback], { DATABASE_URL: url })
  await printed('Type its name to go on: ')
  t.match(await run(t, [migrate], { DATABASE_URL: url }), { code: 0, stdout: 'The schema is up to date.\n' })
  child.stdin.end(`${newest}\n`)
  t.match(await ended, { code: 0, stdout: /Undid/ })
})

await t.test('rollback fails with a message when the database goes away during the prompt', async (t) => {
  const url = await createDatabase(t)
  const { child, ended, printed } = start(t, [rollback], { DATABASE_URL: url })
  await printed('Type its name to go on: ')
  const restore = await makeUnreachable(url)
  child.stdin.end(`${newest}\n`)
  const { code, stderr } = await ended
  await restore()
  t.equal(code, 1)
  t.equal(
    stderr,
    'The database cannot be reached: the database does not exist (SQLSTATE 3D000). Create it, or correct its name in ' +
      'DATABASE_URL or PGDATABASE.\n'
  )
  t.same(await tables(url), all)
})

await t.test('an unreachable database or an unknown option fails with a message', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  const url = `postgres://user:canary@127.0.0.1:${typeof address === 'object' ? address?.port : ''}/x`
  const failed = await run(t, [migrate], { DATABASE_URL: url, DATABASE_START_TIMEOUT_MS: '0' })
  refused(t, failed, /ECONNREFUSED/)
  t.notMatch(failed.stderr, /canary/)
  refused(t, await run(t, [migrate, '--now']), /--now.*npm run db:migrate/s)
})
