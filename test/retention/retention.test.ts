import t from '../run/tap.js'
import { newSteps } from '../../src/onboarding/record.js'
import { createSweeper } from '../../src/retention/retention.js'
import { onboardingService } from '../onboarding/onboarding-service.js'
import { connect, until } from '../helper.js'

const service = await onboardingService(t)
const { app, sql, start, login, post, newTenant, records, databaseUrl } = service
const { database, log } = app
const REDIRECT = { redirect_uri: 'https://a.example' }

const sweep = async (closing = new AbortController().signal) => {
  await createSweeper({ database, closing, log }).sweep()
}
const count = async (table: string, condition = 'true') =>
  Number((await sql(`select count(*) from ${table} where ${condition}`))[0]?.['count'])

/** Inserts `rows` states that expire `expiry` from now (negative: expired). */
async function states (rows: number, expiry: string, tenant = "'tenant ' || i"): Promise<void> {
  await sql(
    `insert into oauth_states
      select 'state ' || i || ${tenant}, ${tenant}, null, now() + interval '${expiry}'
      from generate_series(1, ${rows}) i`
  )
}

await t.test('a login starts without delay while a million expired states of other tenants exist', async (t) => {
  // Building the indexes after the insert takes a third of the time.
  const indexes = (await sql(
    "select indexname, indexdef from pg_indexes where tablename = 'oauth_states' and indexname not like '%pkey'"
  ))
  await sql(
    'alter table oauth_states set unlogged, set (autovacuum_enabled = false), drop constraint oauth_states_pkey'
  )
  for (const { indexname: name } of indexes) await sql(`drop index ${String(name)}`)
  await states(1_000_000, '-1 second')
  await sql('alter table oauth_states add primary key (state_hash)')
  for (const { indexdef: definition } of indexes) await sql(String(definition))
  t.equal((await start(newTenant(), REDIRECT)).is, '200')
  t.ok(await count('oauth_states') > 900_000, 'the login does not delete states of other tenants')
  await sql('truncate oauth_states')
})

await t.test('a sweep deletes all expired rows, in as many batches as needed, and no others', async (t) => {
  await states(2500, '-1 second')
  await states(3, '1 minute', "'open'")
  await sql(
    `insert into webhook_deliveries values
      ('old', now() - interval '30 days 1 minute'), ('young', now() - interval '29 days 23 hours')`
  )
  await sweep()
  t.strictSame([await count('oauth_states'), await count('webhook_deliveries')], [3, 1])
  t.match(await sql('select digest from webhook_deliveries'), [{ digest: 'young' }])
  await sql('truncate oauth_states')
})

await t.test('an onboarding is deleted after a year, unless it has a token or a valid lease', async (t) => {
  const insert = async (code: string, age: string, values: object = {}) => {
    const row = { status: 'in_progress', access_token: null, held_until: null, ...values }
    await sql(`insert into onboardings (tenant_id, code_hash, steps, created_at, status, access_token, held_until)
      values ('old', $1, $2, now() - $3::interval, $4, $5, now() + $6::interval)`, [
      code, JSON.stringify(newSteps()), age, ...Object.values(row)
    ])
  }
  await insert('failed', '366 days', { status: 'failed' })
  await insert('completed', '366 days', { status: 'completed' })
  await insert('never sent', '366 days')
  await insert('abandoned', '366 days', { held_until: '-1 second' })
  await insert('waits with a token', '800 days', { access_token: 'v1.x' })
  await insert('is executed', '366 days', { held_until: '1 minute' })
  await insert('young', '364 days', { status: 'failed' })
  await sweep()
  t.same((await sql("select code_hash from onboardings where tenant_id = 'old' order by code_hash")).map(
    ({ code_hash: code }) => code
  ),
  ['is executed', 'waits with a token', 'young'])
})

await t.test('an ended event is deleted after 7 days', async (t) => {
  for (const [reason, age] of [['old', '7 days 1 minute'], ['young', '6 days 23 hours']]) {
    await sql(`insert into events_ended (type, tenant_id, "from", "to", reason, at, state, ended_at)
      values ('token.revoked', 'a', 'ok', 'revoked', $1, now() - interval '9 days', 'ended', now() - $2::interval)`,
    [reason, age])
  }
  await sweep()
  t.match(await sql('select reason from events_ended'), [{ reason: 'young' }])
})

await t.test('rows locked by another session are left to the next sweep', async (t) => {
  await states(3, '-1 second')
  const other = await connect(t, databaseUrl)
  await other.query("begin; select from oauth_states where state_hash like 'state 2%' for update")
  await sweep()
  t.equal(await count('oauth_states'), 1)
  await other.query('rollback')
  await sweep()
  t.equal(await count('oauth_states'), 0)
})

await t.test('a sweep that fails on one table logs it and sweeps the other tables', async (t) => {
  await sql("insert into webhook_deliveries values ('older', now() - interval '31 days')")
  await service.withoutTable('oauth_states', async () => { await sweep() })
  t.equal(await count('webhook_deliveries', "digest = 'older'"), 0)
  t.match(service.log(), /"level":40[^\n]*"table":"oauth_states"[^\n]*expired rows could not be deleted/)
})

await t.test('a service sweeps at its start and not after it closes', async (t) => {
  await states(10, '-1 second')
  const other = await service.instance()
  await until(async () => await count('oauth_states') === 0)
  await other.app.close()
  await states(10, '-1 second')
  const closing = new AbortController()
  closing.abort()
  const sweeper = createSweeper({ database, closing: closing.signal, log })
  sweeper.start()
  await sweeper.stop()
  t.equal(await count('oauth_states'), 10, 'a closing service starts no sweep')
  await sql('truncate oauth_states')
})

await t.test('a tenant has at most 20 open logins: a new login deletes the oldest', async (t) => {
  const tenant = newTenant()
  await states(150, '9 minutes', `'${tenant}'`)
  await states(2, '1 minute', "'bystander'")
  t.equal((await start(tenant, REDIRECT)).is, '200')
  t.equal(await count('oauth_states', `tenant_id = '${tenant}'`), 51, 'a request deletes at most 100')
  const { body: { state } } = await start(tenant, REDIRECT)
  t.equal(await count('oauth_states', `tenant_id = '${tenant}'`), 20)
  t.equal(await count('oauth_states', "tenant_id = 'bystander'"), 2)
  t.equal((await post(tenant, login(tenant, { state }))).is, '201', 'the newest login stays')
})

await t.test('100 concurrent logins through two instances leave 20 open', async (t) => {
  const tenant = newTenant()
  const other = await service.instance()
  const answers = await Promise.all(
    Array.from({ length: 100 }, async (_, i) => await (i % 2 ? service : other).start(tenant, REDIRECT))
  )
  t.same([...new Set(answers.map(({ is }) => is))], ['200'])
  t.equal(await count('oauth_states', `tenant_id = '${tenant}'`), 20)
})

await t.test('a login succeeds although surplus rows cannot be deleted', async (t) => {
  const tenant = newTenant()
  await states(30, '9 minutes', `'${tenant}'`)
  await sql(`create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
    create trigger refuse before delete on oauth_states for each row execute function refuse();
    create trigger refuse before delete on onboardings for each row execute function refuse()`)
  await sql(
    `insert into onboardings (tenant_id, code_hash, steps, status)
      select $1, 'refused ' || i, $2, 'failed' from generate_series(1, 30) i`,
    [tenant, JSON.stringify(newSteps())]
  )
  t.equal((await start(tenant, REDIRECT)).is, '200')
  t.equal((await post(tenant, login(tenant))).is, '201')
  await sql('drop function refuse() cascade')
  t.match(service.log(), /"level":40[^\n]*surplus logins could not be deleted/)
  t.match(service.log(), /"level":40[^\n]*surplus onboardings could not be deleted/)
  t.equal(await count('oauth_states', `tenant_id = '${tenant}'`), 31)
  await start(tenant, REDIRECT)
  t.equal(await count('oauth_states', `tenant_id = '${tenant}'`), 20, 'the next login deletes the surplus')
})

await t.test('a tenant keeps its 20 newest onboardings, and those with a token or a lease owner', async (t) => {
  const tenant = newTenant()
  const insert = async (rows: number, code: string, values: string) => await sql(
    `insert into onboardings (tenant_id, code_hash, steps, created_at, status, access_token, holder)
      select $1, '${code} ' || i, $2, now() - interval '1 hour' - i * interval '1 minute', ${values}
      from generate_series(1, ${rows}) i`,
    [tenant, JSON.stringify(newSteps())])
  await insert(1, 'token', "'in_progress', 'v1.x', null")
  await insert(60, 'completed', "'completed', null, null")
  await insert(1, 'failed', "'failed', null, null")
  await sql("update onboardings set created_at = now() - interval '2 hours' where code_hash = 'token 1'")
  await sql("update onboardings set holder = gen_random_uuid(), status = 'failed' where code_hash = 'completed 60'")
  // A post with an invalid code is refused before it ends another login.
  await post(tenant, login(tenant, { code: 'x' }))
  const kept = (await records(tenant)).map(({ code_hash: code }) => code)
  t.equal(kept.length, 22)
  t.same(kept.filter((code) => /^(token 1|completed 60)$/.test(String(code))).length, 2)
  t.ok(kept.includes('failed 1'), 'the new record is kept')
})
