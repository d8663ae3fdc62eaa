import { once } from 'node:events'
import { createServer } from 'node:net'
import t, { type Test } from 'tap'
import { createDatabase, query } from '../helper.js'
import { refused, run, start, tables } from './run.js'

const migrate = 'src/cli/migrate.ts'
const rollback = 'src/cli/rollback.ts'
const newest = '0000_tenant_configs'

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
