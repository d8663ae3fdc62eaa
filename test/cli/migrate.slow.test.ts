import type { Test } from 'tap'
import t from '../run/tap.js'
import { migrate } from '../../src/database/migrations/migrations.js'
import { formerSchema, tags } from '../fixtures/migrations.js'
import { connect, createDatabase, query, until, untilWaiting } from '../helper.js'
import { run, start } from './run.js'

// A dozen processes: slow on a busy machine.
t.setTimeout(300_000)

const TENANTS = 20_000
const command = ['src/cli/migrate.ts']
const undo = ['src/cli/rollback.ts', '--yes']
const invalid = 'select relname from pg_index join pg_class on pg_class.oid = indexrelid where not indisvalid and ' +
  "relname not like 'pg_%'"
const verified = 'select count(*)::int as count from verified_identities'

/** A database of the former version, in which every tenant is verified. */
async function formerDatabase (t: Test): Promise<string> {
  const url = await createDatabase(t, { empty: true })
  await formerSchema(t, url)
  await query(url, `insert into tenant_configs (tenant_id, waba_id, phone_number_id, access_token, last_verified_at)
    select 't' || i, 'w' || i, 'p' || i, 'x', now() from generate_series(1, ${TENANTS}) as i`)
  return url
}

/** Runs the command to its end and asserts that the migration is complete. */
async function assertCompletes (t: Test, url: string): Promise<void> {
  const applied = new RegExp(`^Applied .*${tags.at(-1)}\\.\\n$`)
  t.match(await run(t, command, { DATABASE_URL: url }), { code: 0, stdout: applied })
  await assertUpToDate(t, url)
}

async function assertUpToDate (t: Test, url: string): Promise<void> {
  t.same(await migrate(url), [], 'no migration is pending')
  t.same(await query(url, verified), [{ count: TENANTS }])
  t.same(await query(url, invalid), [])
  const indexes = await query(
    url,
    'select indexname as name from pg_indexes where indexname ~ ' +
      "'^(oauth_states_tenant|onboardings_created_at|tenant_configs_phone_number_id)' order by 1"
  )
  t.same(indexes.map(({ name }) => name), [
    'oauth_states_tenant_idx', 'onboardings_created_at_idx', 'tenant_configs_phone_number_id_idx'
  ])
  t.same((await query(url, 'select created_at from drizzle.__whatsapp_tenant_config_migrations')).length, tags.length)
}

await t.test('after a SIGKILL during the backfill, the next execution completes it', async (t) => {
  const url = await formerDatabase(t)
  const lockHolder = await connect(t, url)
  await lockHolder.query("begin; select from tenant_configs where tenant_id = 't5001' for update")
  const { child, ended } = start(t, command, { DATABASE_URL: url })
  await until(
    async () => (await query(url, "select where to_regclass('verified_identities') is not null")).length > 0 &&
      (await query(url, `${verified} having count(*) >= 5000`)).length > 0
  )
  child.kill('SIGKILL')
  await ended
  await lockHolder.query('commit')
  t.not((await query(url, verified))[0]?.['count'], TENANTS)
  await assertCompletes(t, url)
})

await t.test('after a SIGKILL during an index build, the next execution waits for PostgreSQL', async (t) => {
  const url = await formerDatabase(t)
  const lockHolder = await connect(t, url)
  await lockHolder.query('begin isolation level repeatable read; select from oauth_states')
  const { child, ended } = start(t, command, { DATABASE_URL: url })
  await until(async () => (await query(url, invalid)).length > 0)
  await untilWaiting(url, 1)
  child.kill('SIGKILL')
  await ended
  const next = start(t, command, { DATABASE_URL: url })
  next.child.stderr.once('data', () => { lockHolder.query('commit').catch(t.fail) })
  t.match(await next.ended, {
    code: 0,
    stderr: /^Another process migrates: waiting for a lock for \d s, try 1 failed\.$/m
  })
  await assertUpToDate(t, url)
})

await t.test('after a lost connection during an index build, the next execution builds the index again', async (t) => {
  const url = await formerDatabase(t)
  const lockHolder = await connect(t, url)
  await lockHolder.query('begin isolation level repeatable read; select from oauth_states')
  const { ended } = start(t, command, { DATABASE_URL: url })
  await until(async () => (await query(url, invalid)).length > 0)
  await untilWaiting(url, 1)
  await query(
    url,
    'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event_type = ' +
      "'Lock'"
  )
  t.match(await ended, { code: 1 })
  await lockHolder.query('commit')
  t.same(await query(url, invalid), [{ relname: 'oauth_states_tenant_idx' }])
  await assertCompletes(t, url)
})

await t.test('after a SIGKILL during the import of the journal, the next execution imports it', async (t) => {
  const url = await formerDatabase(t)
  const lockHolder = await connect(t, url)
  await lockHolder.query('begin; lock table drizzle.__drizzle_migrations')
  const { child, ended } = start(t, command, { DATABASE_URL: url })
  await untilWaiting(url, 1)
  child.kill('SIGKILL')
  await ended
  await lockHolder.query('commit')
  t.same(
    await query(url, "select to_regclass('drizzle.__whatsapp_tenant_config_migrations') as journal"),
    [{ journal: null }]
  )
  await assertCompletes(t, url)
})

await t.test('migrations use DATABASE_DIRECT_URL instead of the pooler of DATABASE_URL', async (t) => {
  const url = await createDatabase(t, { empty: true })
  // A pooler drops `options` and keeps no session, so no statement may use it.
  const env = { DATABASE_URL: 'postgres://user:canary@127.0.0.1:9/pooler', DATABASE_DIRECT_URL: url }
  t.match(await run(t, command, env), { code: 0, stdout: `Applied ${tags.join(', ')}.\n` })
  t.match(await run(t, undo, env), { code: 0, stdout: `Undid ${tags.at(-1)}.\n` })
})

await t.test('a migration that waits for a lock reports it on stderr', async (t) => {
  const url = await createDatabase(t)
  const lockHolder = await connect(t, url)
  // Later migrations may need no lock.
  for (const tag of tags.slice(tags.indexOf('0011_resealing') + 1).toReversed()) {
    t.match(await run(t, undo, { DATABASE_URL: url }), { code: 0, stdout: `Undid ${tag}.\n` })
  }
  await lockHolder.query('begin; lock table tenant_configs')
  const { child, ended } = start(t, undo, { DATABASE_URL: url })
  child.stderr.once('data', () => { lockHolder.query('commit').catch(t.fail) })
  t.match(await ended, {
    code: 0,
    stdout: 'Undid 0011_resealing.\n',
    stderr: /^0011_resealing: waiting for a lock for \d s, try 1 failed\.$/m
  })
})
