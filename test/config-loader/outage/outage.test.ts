import type { Test } from 'tap'
import t from '../../run/tap.js'
import type { ConfigSnapshot } from '../../../src/config-loader/snapshot.js'
import { muteChanges, verifyEachRow } from '../../fixtures/verified-rows.js'
import { aboutConnections, buildTestApp, query, makeUnreachable, until } from '../../helper.js'

const envIdentity = { WHATSAPP_PHONE_ID: '99', WHATSAPP_TOKEN: 'token of env', WHATSAPP_WABA_ID: '99' }
const unavailable = { code: 'DATABASE_UNAVAILABLE' }

/** A service with cached and uncached tenants, before an outage. */
async function createKnown (t: Test, env: Record<string, string | number> = {}) {
  const { app, databaseUrl } = await buildTestApp(t, { ...envIdentity, ...env })
  const { tenantConfigs, configLoader } = app
  await verifyEachRow(databaseUrl)
  for (const [number, tenant] of ['known', 'inactive', 'cold'].entries()) {
    await tenantConfigs.create(tenant, null, {
      phone_number_id: `${number}`,
      waba_id: `${number}`,
      access_token: `token of ${tenant}`
    })
  }
  await tenantConfigs.setActive('inactive', false)
  // A late notification of these writes would invalidate the entries cached below.
  await until(() => configLoader.stats().invalidations >= 10)
  await Promise.allSettled(['known', 'inactive', 'missing'].map(configLoader.forTenant))
  for (const id of ['0', '1', '99']) await Promise.all([configLoader.forPhoneNumber(id), configLoader.forWaba(id)])
  const isDown = async () => await until(() => configLoader.stats().channel === 'down')
  /** Waits until the cached configuration is served as stale. */
  const isStale = async () => await until(async () => (await configLoader.forTenant('known')).isStale())
  return { app, databaseUrl, configLoader, tenantConfigs, isDown, isStale }
}

/** The calls that must be refused in an outage. */
const unknown = (
  { forTenant, forPhoneNumber, forWaba }: Awaited<ReturnType<typeof createKnown>>['configLoader']
): [string, () => Promise<unknown>][] => [
  ['missing', async () => await forTenant('missing')],
  ['inactive', async () => await forTenant('inactive')],
  ['cold', async () => await forTenant('cold')],
  ['a cold number', async () => await forPhoneNumber('2')],
  ['a cold account', async () => await forWaba('2')],
  ['the number of an inactive tenant', async () => await forPhoneNumber('1')],
  ['the account of an inactive tenant', async () => await forWaba('1')],
  ['a number without a tenant', async () => await forPhoneNumber('99')],
  ['an account without a tenant', async () => await forWaba('99')]
]

await t.test('in an outage only cached active tenants are served, as stale', async (t) => {
  for (const CONFIG_FALLBACK of ['missing-or-inactive', 'none']) {
    const { databaseUrl, configLoader, isDown, isStale } = await createKnown(t, { CONFIG_FALLBACK })
    const before = await configLoader.forTenant('known')
    const restore = await makeUnreachable(databaseUrl)
    await isDown()
    await isStale()
    const assertKnown = (snapshot: ConfigSnapshot | null | undefined) => {
      t.strictSame(
        [snapshot?.getTenantId(), snapshot?.getAccessToken(), snapshot?.isStale()],
        ['known', 'token of known', true]
      )
      t.strictSame(snapshot?.getAllConfig(), before.getAllConfig())
    }
    assertKnown(await configLoader.forTenant('known'))
    assertKnown(await configLoader.forPhoneNumber('0'))
    const onAccount = await configLoader.forWaba('0')
    t.equal(onAccount.length, 1)
    assertKnown(onAccount[0])
    t.equal(before.isStale(), false, 'an earlier snapshot does not change')
    t.ok(configLoader.stats().stale_serves >= 4)

    // Through a pooler the outage is known only once a probe has timed out.
    await until(async () => {
      const { loads } = configLoader.stats()
      await configLoader.forTenant('cold').catch(() => {})
      return configLoader.stats().loads === loads
    })
    const { loads } = configLoader.stats()
    const begun = performance.now()
    for (let times = 0; times < 50; times++) {
      for (const [what, ask] of unknown(configLoader)) await t.rejects(ask(), unavailable, what)
    }
    t.ok(performance.now() - begun < 4500, 'each refusal takes at most 10 ms')
    t.equal(configLoader.stats().loads, loads, 'no load starts')

    await restore()
    await until(async () => await configLoader.forTenant('cold').then(() => true, () => false))
    await until(async () => !(await configLoader.forTenant('known')).isStale())
    t.equal((await configLoader.forTenant('cold')).getAccessToken(), 'token of cold')
    t.equal((await configLoader.forPhoneNumber('2'))?.getTenantId(), 'cold')
    t.strictSame([await configLoader.forPhoneNumber('99'), await configLoader.forWaba('1')], [null, []])
    await until(() => configLoader.stats().channel === 'up')
    await query(databaseUrl, "update tenant_configs set waba_id = '5' where tenant_id = 'known'")
    await until(async () => (await configLoader.forTenant('known')).getWabaId() === '5')
  }
})

await t.test('ten thousand calls at the start of an outage open no connection', aboutConnections, async (t) => {
  const { app, databaseUrl, configLoader } = await createKnown(t)
  const restore = await makeUnreachable(databaseUrl)
  let connections = 0
  app.pg['tenantConfig']?.pool.on('connect', () => { connections++ })
  const begun = performance.now()
  const outcomes = await Promise.allSettled(
    Array.from({ length: 10_000 }, async (_, count) => await configLoader.forTenant(`cold ${count % 100}`))
  )
  t.ok(performance.now() - begun < 5000, 'within 5 s')
  t.ok(outcomes.every((outcome) => outcome.status === 'rejected' && outcome.reason?.code === 'DATABASE_UNAVAILABLE'))
  t.equal(connections, 0)
  await restore()
  await until(async () => await configLoader.forTenant('cold').then(() => true, () => false))
})

await t.test('with CONFIG_STALE_IF_ERROR_MS=0 nothing is served as stale', async (t) => {
  const { databaseUrl, configLoader, isDown } = await createKnown(t, {
    CONFIG_STALE_IF_ERROR_MS: 0,
    CONFIG_CACHE_BLIND_TTL_MS: 0
  })
  const restore = await makeUnreachable(databaseUrl)
  await isDown()
  await t.rejects(configLoader.forTenant('known'), unavailable)
  await t.rejects(configLoader.forPhoneNumber('0'), unavailable)
  await t.rejects(configLoader.forWaba('0'), unavailable)
  t.equal(configLoader.stats().stale_serves, 0)
  await restore()
  await until(async () => await configLoader.forTenant('known').then(() => true, () => false))
  t.equal((await configLoader.forTenant('known')).isStale(), false)
})

await t.test('stale configurations are refused after CONFIG_STALE_IF_ERROR_MS', async (t) => {
  const { databaseUrl, configLoader, isDown, isStale } = await createKnown(t, {
    CONFIG_STALE_IF_ERROR_MS: 6000,
    CONFIG_CACHE_BLIND_TTL_MS: 0
  })
  const restore = await makeUnreachable(databaseUrl)
  const takenAt = performance.now()
  await isDown()
  await isStale()
  await until(async () => await configLoader.forTenant('known').then(() => false, () => true))
  t.ok(performance.now() - takenAt < 8000)
  await t.rejects(configLoader.forTenant('known'), unavailable)
  await restore()
  await until(async () => await configLoader.forTenant('known').then((snapshot) => !snapshot.isStale(), () => false))
})

await t.test('a row whose write has an unknown outcome is not served as stale', async (t) => {
  const { databaseUrl, configLoader, tenantConfigs, isDown, isStale } = await createKnown(t)
  const restore = await makeUnreachable(databaseUrl)
  await isDown()
  await isStale()
  await t.rejects(tenantConfigs.update('known', { waba_id: '6' }), unavailable)
  await t.rejects(configLoader.forTenant('known'), unavailable)
  await t.rejects(configLoader.forPhoneNumber('0'), unavailable, 'a lookup by number does not serve the row')
  await restore()
  await until(
    async () => await configLoader.forTenant('known').then((snapshot) => snapshot.getWabaId() === '0', () => false)
  )
})

await t.test('a lookup that contradicts its row is not served as stale', async (t) => {
  const { databaseUrl, configLoader, isDown, isStale } = await createKnown(t)
  await muteChanges(databaseUrl)
  await query(databaseUrl, "update tenant_configs set phone_number_id = '3', waba_id = '3' where tenant_id = 'known'")
  await query(databaseUrl, "select pg_notify('tenant_configs', '[[\"known\", null, null]]')")
  await until(async () => (await configLoader.forTenant('known')).getPhoneId() === '3')
  t.equal(await configLoader.forPhoneNumber('0'), null)
  const restore = await makeUnreachable(databaseUrl)
  await isDown()
  await isStale()
  await t.rejects(configLoader.forPhoneNumber('0'), unavailable)
  await t.rejects(configLoader.forWaba('0'), unavailable)
  await restore()
})

await t.test('each load that is running at close() gets an answer', async (t) => {
  for (const isMissing of [false, true]) {
    const { app, databaseUrl, configLoader } = await createKnown(t)
    const restore = isMissing ? await makeUnreachable(databaseUrl) : async () => {}
    const calls = Array.from({ length: 200 }, async (_, count) => await configLoader.forTenant(`cold ${count}`))
    const [outcomes] = await Promise.all([Promise.allSettled(calls), app.close()])
    for (const outcome of outcomes) if (outcome.status === 'rejected') t.match(outcome.reason, unavailable)
    t.equal(outcomes.length, 200, 'each call ends')
    await t.rejects(configLoader.forTenant('later'), unavailable)
    await restore()
  }
})

await t.test('the loss of the listening connection reveals an outage without any read', async (t) => {
  const { databaseUrl, configLoader, isDown } = await createKnown(t, { CONFIG_CACHE_BLIND_TTL_MS: 60_000 })
  t.equal((await configLoader.forTenant('missing')).getAccessToken(), 'token of env')
  const { loads } = configLoader.stats()
  const restore = await makeUnreachable(databaseUrl)
  await isDown()
  await until(
    async () => await configLoader.forTenant('missing').then(() => false, ({ code }) => code === 'DATABASE_UNAVAILABLE')
  )
  t.equal(configLoader.stats().loads, loads, 'no read started')
  await restore()
  await until(async () => await configLoader.forTenant('missing').then(() => true, () => false))
})
