import { sql as template } from 'drizzle-orm'
import t from '../../run/tap.js'
import { temporarilyDown, throttled } from '../../graph/errors.js'
import { claimQuery, claimUnblockedQuery } from '../../../src/token-watch/token-watch.sql.js'
import { assertNear, DAY, FIVE_MINUTES, S_PER_DAY, watch } from '../watch.js'

const { meta, own, issue, asked, startService, reset } = await watch(t)
t.beforeEach(reset)

const MINUTE = 60_000

await t.test('tokens with a deadline are checked before those that were due earlier', async (t) => {
  for (const isBlocked of [false, true]) {
    reset()
    const { app, store, poll, sql } = await startService(t, { TOKEN_CHECK_CONCURRENCY: 1 })
    const pair = { fb_app_id: own.app_id, fb_app_secret: own.app_secret }
    if (isBlocked) {
      await store('blocked', issue())
      meta.fail('debug_token', { reply: throttled(4) })
      await poll()
      t.same(app.metaGraph.blockedApps().length, 1)
      reset()
    }
    const tokens = Array.from({ length: 9 }, () => issue({ app_id: own.app_id, expires_in: 90 * S_PER_DAY }))
    for (const [i, token] of tokens.entries()) await store(`tenant ${i}`, token, pair)
    await sql(`update token_watch set is_deadline = tenant_id in ('tenant 6', 'tenant 7', 'tenant 8'),
      next_check_at = now() - interval '1 hour' + right(tenant_id, 1)::int * interval '1 second'
      where tenant_id like 'tenant _'`)
    await poll()
    t.same(asked(), [...tokens.slice(6), ...tokens.slice(0, 6)])
  }
})

await t.test('concurrent claims never overlap, and take all due tokens of both lanes', async (t) => {
  const { app: { database }, sql } = await startService(t)
  await sql("insert into tenant_configs (tenant_id, access_token) select 't' || i, 'x' from generate_series(1, 300) i")
  for (const query of [() => claimQuery(16, DAY), () => claimUnblockedQuery(16, DAY, ['1'], '2')]) {
    await sql("update token_watch set next_check_at = now(), is_deadline = right(tenant_id, 1) in ('1', '2')")
    const claimed = new Set<string>()
    let count = 0
    while (claimed.size < 300) {
      const batches = await Promise.all(Array.from({ length: 8 }, async () => await database.run(query())))
      for (const { tenant_id } of batches.flat()) claimed.add(tenant_id)
      const taken = batches.flat().length
      if (taken === 0) break
      t.ok(batches.every((batch) => batch.length <= 16))
      count += taken
    }
    t.same([claimed.size, count], [300, 300])
  }
})

await t.test('a claim fills up with tokens of the second lane', async (t) => {
  const { app: { database }, sql } = await startService(t)
  await sql("insert into tenant_configs (tenant_id, access_token) select 't' || i, 'x' from generate_series(1, 9) i")
  for (const query of [() => claimQuery(5, DAY), () => claimUnblockedQuery(5, DAY, ['1'], '2')]) {
    await sql("update token_watch set next_check_at = now(), is_deadline = tenant_id in ('t7', 't8')")
    const ids = (await database.run(query())).map(({ tenant_id }) => tenant_id).sort()
    t.same(ids.filter((id) => id === 't7' || id === 't8'), ['t7', 't8'])
    t.equal(ids.length, 5)
  }
})

await t.test('a check marks its token if a warning is near, and a failed check of it is retried sooner', async (t) => {
  const { store, poll, pollAll, healthOf, app: { database } } = await startService(t)
  for (const [tenant, days] of Object.entries({ near: 15.5, far: 60, never: 0 })) {
    await store(tenant, issue({ expires_in: days * S_PER_DAY }))
  }
  await poll()
  t.same(
    await database.run(template`select tenant_id from token_watch where is_deadline`),
    [{ tenant_id: 'near' }]
  )
  meta.fail('debug_token', { reply: temporarilyDown(), times: Infinity })
  await pollAll()
  for (const [tenant, wait] of [['near', MINUTE], ['far', FIVE_MINUTES], ['never', FIVE_MINUTES]] as const) {
    assertNear(t, (await healthOf(tenant)).wait, wait)
  }
  t.same(
    await database.run(template`select tenant_id from token_watch where is_deadline`),
    [{ tenant_id: 'near' }],
    'a failed check keeps the mark'
  )
})

await t.test('the end of the access to data is stored, and counts when no check can be made', async (t) => {
  const { store, poll, pollAll, healthOf, tenantConfigs, transitions, sql } = await startService(t)
  const pair = { fb_app_id: own.app_id, fb_app_secret: own.app_secret }
  const grant = { app_id: own.app_id, expires_in: 0, data_access_expires_in: 6 * S_PER_DAY }
  await store('acme', issue(grant), pair)
  await poll()
  t.match(await healthOf('acme'), {
    token_status: 'expiring',
    reason: 'data_access_ends_within_7_days',
    token_expires_at: null
  })
  t.same(asked().length, 1, 'no extension prolongs the access to data')
  const left = async () => (await sql(
    'select extract(epoch from data_access_ends_at - now())::float8 as s from token_watch'
  ))[0]?.['s']
  assertNear(t, Number(await left()) * 1000, 6 * DAY)

  await tenantConfigs.update('acme', { fb_app_secret: 'wrong' })
  await sql("update token_watch set data_access_ends_at = now() + interval '100 seconds'")
  await pollAll()
  const { wait, ...health } = await healthOf('acme')
  t.match(health, { token_status: 'unverified', reason: 'app_rejected' })
  assertNear(t, wait, 100_000)
  await sql("update token_watch set data_access_ends_at = now() - interval '1 second'")
  await pollAll()
  t.match(await healthOf('acme'), { token_status: 'expired', reason: 'data_access_ended' })
  meta.fail('debug_token', { reply: temporarilyDown() })
  await tenantConfigs.update('acme', { fb_app_secret: own.app_secret })
  await pollAll()
  t.match(await healthOf('acme'), { token_status: 'reauth_required', reason: 'data_access_ended' })

  await tenantConfigs.update('acme', { access_token: issue({ ...grant, data_access_expires_in: 0 }) })
  t.equal(await left(), null, 'a new token resets it')
  await poll()
  t.match(await healthOf('acme'), { token_status: 'ok' })
  t.same(transitions.map(({ type, reason }) => [type, reason]), [
    ['token.expiring', 'data_access_ends_within_7_days'],
    ['token.expired', 'data_access_ended'],
    ['token.reauth_required', 'data_access_ended'],
    ['token.recovered', null]
  ])
})
