import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { migrate, rollback } from '../../../src/database/migrations/migrations.js'
import { firstMigrations, ownMigrations, tags } from '../../fixtures/migrations.js'
import { connect, createDatabase, query, until } from '../../helper.js'

const yes = async () => true
const OUTSIDE = '-- outside a transaction\n'
const NEXT = '--> statement-breakpoint\n'

/**
 * Reads `tenant_configs` until `stop`, with the statement timeout of the service (1.6 s). Returns the count and the
 * longest read in ms.
 */
async function reading (t: Test, url: string) {
  const client = await connect(t, url)
  await client.query("set statement_timeout = '1600ms'")
  const seen = { reads: 0, longestMs: 0 }
  const over = new AbortController()
  const done = (async () => {
    while (!over.signal.aborted) {
      const began = performance.now()
      await client.query('select from tenant_configs')
      seen.longestMs = Math.max(seen.longestMs, performance.now() - began)
      seen.reads++
      await delay(5)
    }
    return seen
  })()
  done.catch(() => {})
  return { seen, stop: async () => { over.abort(); return await done } }
}

/** A transaction that has read `tenant_configs` and stays open, as pg_dump's does. */
async function openReader (t: Test, url: string) {
  const reader = await connect(t, url)
  await reader.query('begin isolation level repeatable read; select from tenant_configs')
  return reader
}

await t.test('a migration waiting for an open reader retries, reports it, and fails no read', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await migrate(url, { folder: firstMigrations(t, 1) })
  const lockHolder = await openReader(t, url)
  const { seen, stop } = await reading(t, url)
  const lines: string[] = []
  const migrating = migrate(url, { report: (line) => { lines.push(line) } })
  await until(() => lines.length > 2)
  const during = seen.reads
  await until(() => seen.reads > during)
  await lockHolder.query('commit')
  t.same(await migrating, tags.slice(1))
  t.ok((await stop()).longestMs < 1600)
  t.match(lines[0], /^0001_onboarding: waiting for a lock for [01] s, try 1 failed\.$/)
  t.match(lines[2], /^0001_onboarding: waiting for a lock for \d s, try 3 failed\.$/)
})

await t.test('the statements of a transaction share the lock timeout of 500 ms per try', async (t) => {
  const url = await createDatabase(t, { empty: true })
  const setting = "setting::int as timeout from pg_settings where name = 'lock_timeout'"
  await migrate(
    url,
    {
      folder: ownMigrations(
        t,
        {
          '0000_limits': [
            `create table limits as select ${setting};`, 'select pg_sleep(0.2);',
            `insert into limits select ${setting};`, 'select pg_sleep(0.5);', `insert into limits select ${setting};`
          ].join(NEXT)
        }
      )
    }
  )
  const [first = NaN, second = NaN, third] = (await query(url, 'select timeout from limits')).map(
    ({ timeout }) => Number(timeout)
  )
  t.ok(first <= 500 && second <= first - 200, `${first} ms, then ${second} ms`)
  t.equal(third, 1, 'the last timeout is the minimum of 1 ms')
})

await t.test('a lock timeout is an error that names the migration, and nothing is applied', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await migrate(url, { folder: firstMigrations(t, 1) })
  await openReader(t, url)
  const message = '0001_onboarding: no lock within 1 s. Find the transaction that holds it in pg_locks, then run ' +
    'this again.'
  await t.rejects(migrate(url, { timeoutMs: 1000 }), { message, cause: { cause: { code: '55P03' } } })
  t.same(await query(url, "select to_regclass('onboardings') as onboardings"), [{ onboardings: null }])
})

await t.test('any other error of PostgreSQL is not retried', async (t) => {
  const url = await createDatabase(t, { empty: true })
  const report = () => { t.fail('the migration is retried') }
  await t.rejects(
    migrate(url, { folder: ownMigrations(t, { '0000_fault': 'select 1 / 0;' }), report }),
    { cause: { code: '22012' } }
  )
  await t.rejects(
    migrate(url, { folder: ownMigrations(t, { '0000_fault': `${OUTSIDE}select 1 / 0;` }), report }),
    { cause: { code: '22012' } }
  )
})

await t.test('a deadlock is retried', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await query(url, 'create table tries (id serial)')
  const deadlock = "do $$ begin if nextval('tries_id_seq') = 1 then raise 'deadlock' using errcode = '40P01'; end " +
    'if; end $$;'
  const lines: string[] = []
  t.same(
    await migrate(url, {
      folder: ownMigrations(t, { '0000_deadlock': deadlock }),
      report: (line) => { lines.push(line) }
    }),
    ['0000_deadlock']
  )
  t.equal(lines.length, 1)
})

await t.test('time limits of the database do not apply to a migration', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await query(url, `alter database ${new URL(url).pathname.slice(1)} set statement_timeout = '200ms'`)
  const folder = ownMigrations(t, {
    '0000_slow': 'select pg_sleep(0.3);',
    '0001_slow': `${OUTSIDE}select pg_sleep(0.3);`
  })
  t.same(await migrate(url, { folder }), ['0000_slow', '0001_slow'])
})

await t.test('an invalid index of a failed CONCURRENTLY migration is created again', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await query(url, 'create table rows (id int); insert into rows values (1), (1)')
  const index = (name: string) => `create unique index concurrently if not exists "${name}" on rows (id);`
  const folder = ownMigrations(t, { '0000_index': `${OUTSIDE}${index('rows_key')}` })
  const valid = async () => await query(
    url,
    "select indisvalid as valid from pg_index where indrelid = 'rows'::regclass"
  )
  await t.rejects(migrate(url, { folder }), { cause: { code: '23505' } })
  t.same(await valid(), [{ valid: false }])
  await query(url, 'delete from rows')
  t.same(await migrate(url, { folder }), ['0000_index'])
  t.same(await valid(), [{ valid: true }])
})

await t.test('an index created concurrently waits for a reader, but blocks no read or write', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await query(url, 'create table tenant_configs (id int, tenant_id text)')
  const lockHolder = await openReader(t, url)
  const folder = ownMigrations(
    t,
    { '0000_index': `${OUTSIDE}create index concurrently if not exists "rows_idx" on tenant_configs (id);` }
  )
  const lines: string[] = []
  const migrating = migrate(url, { folder, reportEveryMs: 50, report: (line) => { lines.push(line) } })
  await until(() => lines.length > 2)
  t.match(lines[0], /^0000_index: running for 0 s; CONCURRENTLY waits for open transactions\.$/)
  await query(
    url,
    "set statement_timeout = '1600ms'; insert into tenant_configs (id) values (1); select from tenant_configs"
  )
  // A version before 0003 locks this during its start with MIGRATE_ON_START.
  await query(url, "set lock_timeout = '100ms'; select pg_advisory_lock(hashtext('whatsapp-tenant-config migrations'))")
  const second = migrate(url, { folder, report: (line) => { lines.push(line) } })
  await until(
    () => lines.some((line) => /^Another process migrates: waiting for a lock for \d s, try 2 failed\.$/.test(line))
  )
  await lockHolder.query('commit')
  t.same(await Promise.all([migrating, second]), [['0000_index'], []], 'one of two migrates')
})

await t.test('a batched statement continues after its last row, one transaction per batch', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await query(
    url,
    'create table rows (id int primary key, batch bigint); insert into rows select generate_series(1, 25)'
  )
  const batches = `-- in batches
    with page as (select id from rows where id > coalesce($1::int, 0) order by id limit 10),
    filled as (update rows set batch = txid_current() from page where rows.id = page.id)
    select max(id) as next, count(*)::int as rows from page;`
  const folder = ownMigrations(
    t,
    { '0000_fill': `${OUTSIDE}${batches}` },
    { '0000_fill': `${OUTSIDE}update rows set batch = null;` }
  )
  const lines: string[] = []
  const lockHolder = await connect(t, url)
  await lockHolder.query('begin; select from rows where id = 15 for update')
  const migrating = migrate(url, { folder, reportEveryMs: 0, report: (line) => { lines.push(line) } })
  await until(() => lines.length > 1)
  t.same(
    await query(url, 'select count(*)::int as count from rows where batch is not null'),
    [{ count: 10 }],
    'the first batch is committed'
  )
  await lockHolder.query('commit')
  t.same(await migrating, ['0000_fill'])
  t.match(lines.join('\n'), RegExp(
    '^0000_fill: 10 rows so far\\.\n0000_fill: waiting for a lock .*' +
      '0000_fill: 20 rows so far\\.\n0000_fill: 25 rows so far\\.',
    's'
  ))
  t.same(
    await query(url, 'select count(*)::int as count from rows group by batch order by min(id)'),
    [10, 10, 5].map((count) => ({ count }))
  )

  t.equal(await rollback(url, yes, { folder }), '0000_fill')
  t.same(await query(url, 'select count(*)::int as count from rows where batch is not null'), [{ count: 0 }])
})
