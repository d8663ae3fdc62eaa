import type { Test } from 'tap'
import t from '../run/tap.js'
import { reconcile } from '../../src/database/reconcile.js'
import { countedDatabase } from '../config-counts/plain-counts.js'
import { buildTestApp, connect, createDatabase, query, untilWaiting } from '../helper.js'

const off = 'alter table tenant_configs disable trigger all;'
/** The state that pg_restore leaves. */
const on = 'alter table tenant_configs enable trigger all;'
const state = async (url: string) => ({
  watched: (await query(url, 'select tenant_id, status from token_watch order by 1')).map(
    (row) => Object.values(row).join(' ')
  ),
  verified: (await query(
    url,
    'select tenant_id, waba_id, phone_number_id from verified_identities order by 1'
  )).map((row) => Object.values(row).join(' ')),
  triggers: (await query(
    url,
    "select tgname from pg_trigger where not tgisinternal and tgname <> 'quiet' and tgenabled <> 'A'"
  )).length
})

/** A database with writes that were made while its triggers were off. */
async function loaded (t: Test, writes: string): Promise<string> {
  const url = await createDatabase(t)
  await query(url, `
    insert into tenant_configs (tenant_id, access_token, waba_id, phone_number_id, last_verified_at) values
    ('acme', 'x', '1', '1', now()), ('changed', 'x', '2', '2', now()), ('gone', 'x', '3', '3', now()),
    ('cleared', 'x', '4', '4', now())`)
  await query(url, "update token_watch set status = 'ok'")
  await query(url, `${off} ${writes}`)
  return url
}

const writes = `delete from tenant_configs where tenant_id = 'gone';
  update tenant_configs set access_token = null where tenant_id = 'cleared';
  update tenant_configs set phone_number_id = '5' where tenant_id = 'changed';
  insert into tenant_configs (tenant_id, access_token) select 'new-' || i, 'x' from generate_series(1, 2500) i;
  insert into tenant_configs (tenant_id, access_token, waba_id, phone_number_id, last_verified_at) values
  ('verified', 'x', '6', '6', now()), ('taken', 'x', '6', '1', now())`

await t.test('a start reconciles rows written while the triggers were off, and logs it once', async (t) => {
  for (const end of [on, '']) {
    const url = await loaded(t, `${writes}; ${end}`)
    const { app, as, log } = await buildTestApp(t, { DATABASE_URL: url })
    const found = await state(url)
    t.equal(found.triggers, 0)
    t.same(found.watched.filter((line) => !line.startsWith('new-')), [
      'acme ok', 'changed ok', 'taken unverified', 'verified unverified'
    ])
    t.equal(found.watched.filter((line) => line.startsWith('new-')).length, 2500)
    t.same(found.verified, ['acme 1 1', 'changed 2 5', 'cleared 4 4', 'verified 6 6'])
    t.match(
      log(),
      '"found":{"triggers not ALWAYS":22,"tokens without a watch":2502,"watches without a token":2,"verified ' +
        'identities of other ids":2,"missing verified identities":2,"wrong counts":4},"msg":"reconciled'
    )
    t.match(
      (await app.inject({ url: '/api/v1/tenant/config/health', headers: as('new-1') })).json(),
      { token_status: 'unverified', reason: null }
    )
    t.notMatch((await buildTestApp(t, { DATABASE_URL: url })).log(), 'reconciled')
  }
})

await t.test('the token of a tenant activated while the triggers were off is checked', async (t) => {
  const url = await loaded(t, '')
  await query(url, `${on} update tenant_configs set is_active = false where tenant_id in ('acme', 'gone')`)
  await query(url, `${off} update tenant_configs set is_active = true where tenant_id = 'acme'`)
  t.same(await reconcile(url), {
    'triggers not ALWAYS': 22, 'tokens that are never due': 1, 'watches with other flags': 1, 'wrong counts': 1
  })
  t.same(
    (await query(url, "select tenant_id from token_watch where next_check_at > now() + interval '1 day'")),
    [{ tenant_id: 'gone' }]
  )
})

await t.test('a missing watch is created even while the triggers are on', async (t) => {
  const url = await loaded(t, '')
  await reconcile(url)
  await query(url, "delete from token_watch where tenant_id = 'acme'")
  t.same(await reconcile(url), { 'tokens without a watch': 1 })
  t.same((await state(url)).watched, ['acme unverified', 'changed ok', 'cleared ok', 'gone ok'])
  t.same(await reconcile(url), {})
})

await t.test('a start corrects an id sequence behind its rows, as after `pg_restore --table`', async (t) => {
  for (const [rows, next] of [["(1, 'first')", 2], ["(7, 'seventh'), (5, 'fifth')", 8]] as const) {
    const url = await createDatabase(t)
    await query(url, `insert into tenant_configs (id, tenant_id) values ${rows}`)
    const { app, as, log } = await buildTestApp(t, { DATABASE_URL: url })
    t.match(log(), '"found":{"sequences behind":1}')
    t.equal(
      (await app.inject({
        method: 'POST',
        url: '/api/v1/tenant/config',
        headers: as('acme'),
        payload: { waba_id: '1' }
      })).statusCode,
      201
    )
    t.same(await query(url, "select id from tenant_configs where tenant_id = 'acme'"), [{ id: next }])
  }
})

await t.test('a token stored during a reconciliation keeps its watch', async (t) => {
  const url = await loaded(t, "delete from tenant_configs; insert into tenant_configs (tenant_id) values ('cleared')")
  const writer = await connect(t, url)
  // The triggers are on for the writer, as after pg_restore.
  await query(url, on)
  await writer.query(
    "begin; insert into tenant_configs (tenant_id, access_token) values ('acme', 'y'); update tenant_configs set " +
      "access_token = 'y' where tenant_id = 'cleared'"
  )
  const reconciling = reconcile(url)
  await untilWaiting(url, 1)
  await writer.query('commit')
  t.match(await reconciling, { 'watches without a token': 4 })
  t.same((await state(url)).watched, ['acme unverified', 'cleared unverified'])
})

await t.test('a start skips reconciliation while the table is locked; the next one retries', async (t) => {
  const url = await loaded(t, writes)
  const lockHolder = await connect(t, url)
  await lockHolder.query('begin; lock table tenant_configs in row exclusive mode')
  const { app, as, log } = await buildTestApp(t, { DATABASE_URL: url })
  t.match(log(), 'could not reconcile what was loaded while triggers were off')
  t.match((await app.inject({ url: '/api/v1/tenant/config/health', headers: as('new-1') })).json(),
    { token_status: 'unverified', reason: null, checked_at: null, next_check_at: null }, 'the token has no watch')
  t.match((await app.inject({ url: '/api/v1/tenant/config/health', headers: as('cleared') })).json(),
    {
      token_status: 'unverified',
      reason: 'no_token',
      checked_at: null,
      next_check_at: null
    }, 'the watch has no token')
  await lockHolder.query('commit')
  await buildTestApp(t, { DATABASE_URL: url })
  t.equal((await state(url)).triggers, 0)
})

await t.test('the counts and the copied flags are corrected after writes with the triggers off', async (t) => {
  const url = await loaded(t, `update tenant_configs set is_active = false where tenant_id = 'acme';
    update tenant_configs set onboarding_completed = true where tenant_id = 'gone'; ${on}`)
  t.match(await reconcile(url), { 'triggers not ALWAYS': 22, 'watches with other flags': 2, 'wrong counts': 2 })
  t.same(await query(url, `select tenant_id, tenant_is_active as active, tenant_is_onboarded as onboarded
    from token_watch where not tenant_is_active or tenant_is_onboarded order by 1`),
  [{ tenant_id: 'acme', active: false, onboarded: false }, { tenant_id: 'gone', active: true, onboarded: true }])
  await (await countedDatabase(t, url)).assertExact('afterwards')
})

await t.test('counts that were written or lost by themselves are corrected', async (t) => {
  const url = await loaded(t, '')
  const { run, assertExact } = await countedDatabase(t, url)
  await reconcile(url)
  await run("update tenant_configs set token_expires_at = now(); insert into phone_numbers values ('acme', '1')")
  for (const write of [
    "update config_count_changes set count = count + 1 where name = 'active'",
    "delete from config_count_changes where source = 'token_watch'",
    "delete from config_count_changes where source = 'phone_numbers'",
    "delete from config_count_changes where name = 'expires_day'",
    "select config_counts_fold(1000); delete from config_counts where name = 'total'"
  ]) {
    await run(write)
    t.same(await reconcile(url), { 'wrong counts': 1 }, write)
    await assertExact(write)
  }
})

await t.test('flags that change during a reconciliation are copied as they are in the end', async (t) => {
  const url = await loaded(t, `update tenant_configs set is_active = false where tenant_id = 'acme'; ${on}`)
  const writer = await connect(t, url)
  await writer.query("begin; update tenant_configs set is_active = true where tenant_id = 'acme'")
  const reconciling = reconcile(url)
  await untilWaiting(url, 1)
  await writer.query('commit')
  await reconciling
  t.same(await query(url, "select tenant_is_active as active from token_watch where tenant_id = 'acme'"),
    [{ active: true }])
  await (await countedDatabase(t, url)).assertExact('afterwards')
})
