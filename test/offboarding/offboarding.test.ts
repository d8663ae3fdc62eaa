import t from '../run/tap.js'
import { app as platform } from '../meta/wire.js'
import { config } from '../routes/client.js'
import { forceOffboardUrl, offboardingService, offboardUrl } from './offboarding-service.js'

const {
  app, as, call, sql, log, rows, meta, issue, newWaba, tenant, unsubscribeCalls, assertDeleted
} = await offboardingService(t)

await t.test('unsubscribe=true unsubscribes our app and deletes the configuration', async (t) => {
  const { who, waba } = await tenant()
  const neighbour = await tenant()
  t.equal((await call(who, 'DELETE', offboardUrl)).is, '204')
  t.strictSame([waba.subscriptions.size, unsubscribeCalls()], [0, 1])
  await assertDeleted(t, who)
  await assertDeleted(t, neighbour.who, false)
  t.equal(neighbour.waba.subscriptions.size, 1)
  t.equal((await call(who, 'DELETE', offboardUrl)).is, '404 CONFIG_NOT_FOUND')
  t.equal((await call(as('nobody'), 'DELETE', forceOffboardUrl)).is, '404 CONFIG_NOT_FOUND')
  t.equal(unsubscribeCalls(), 1)
})

await t.test('a DELETE without unsubscribe=true does not call Meta', async (t) => {
  for (const query of ['', '?unsubscribe=false', '?force=true', '?unsubscribe=false&force=true']) {
    const { who, waba } = await tenant()
    t.equal((await call(who, 'DELETE', `${config}${query}`)).is, '204', query)
    t.equal(waba.subscriptions.size, 1)
    await assertDeleted(t, who)
  }
  const { who } = await tenant()
  for (const query of [
    'unsubscribe', 'unsubscribe=1', 'unsubscribe=yes', 'unsubscribe=TRUE', 'unsubscribe=true&force=maybe',
    'unsubscribe=true&unsubscribe=true', 'unsubscribed=true'
  ]) {
    t.equal((await call(who, 'DELETE', `${config}?${query}`)).is, '400 VALIDATION_FAILED', query)
  }
  await assertDeleted(t, who, false)
  t.strictSame(meta.requests, [])
})

await t.test('a tenant with its own app unsubscribes that app, not the app of the platform', async (t) => {
  const own = meta.state.addApp()
  const { who, waba } = await tenant(
    { fb_app_id: own.app_id, fb_app_secret: own.app_secret, access_token: issue(own.app_id) },
    newWaba([platform.id, own.app_id])
  )
  t.equal((await call(who, 'DELETE', offboardUrl)).is, '204')
  t.strictSame([...waba.subscriptions.keys()], [platform.id])
})

await t.test('a tenant without a token or without an account is deleted without a call to Meta', async (t) => {
  for (const fields of [{ access_token: null }, { waba_id: null }, { waba_id: null, access_token: null }]) {
    const { id, who, waba } = await tenant(fields)
    t.equal((await call(who, 'DELETE', offboardUrl)).is, '204')
    await assertDeleted(t, who)
    t.notMatch(log(), new RegExp(`"tenant_id":"${id}"[^\\n]*our app stays`))
    t.equal(waba.subscriptions.size, 1)
  }
  t.strictSame(meta.requests, [])
})

await t.test('an account with numbers of two tenants is unsubscribed when the last one leaves', async (t) => {
  const { id, who, waba } = await tenant()
  const other = await tenant({}, waba)
  const before = (await rows()).filter(({ tenant_id: id }) => id === other.id)
  // The unreadable token shows that neither the secrets nor Meta are needed.
  await sql(
    'update tenant_configs set access_token = $1 where tenant_id <> $2 and waba_id = $3',
    ['v1.none.AAAA', other.id, waba.id]
  )
  t.equal((await call(who, 'DELETE', offboardUrl)).is, '204')
  await assertDeleted(t, who)
  t.strictSame([waba.subscriptions.size, unsubscribeCalls()], [1, 0])
  t.same((await rows()).filter(({ tenant_id: id }) => id === other.id), before)
  const logLines = (id: string) =>
    log().split(`"tenant_id":"${id}","waba_id":"${waba.id}","msg":"our app stays on the account`).length - 1
  t.equal(logLines(id), 1)
  await call(other.who, 'POST', `${config}/deactivate`)
  t.equal((await call(other.who, 'DELETE', offboardUrl)).is, '204', 'the last tenant unsubscribes the account')
  t.strictSame([waba.subscriptions.size, logLines(other.id)], [0, 0])
  t.match(log(), /"level":30[^\n]*our app stays on the account of a tenant who left/)
})

await t.test('a tenant without a number does not affect the subscription of the account', async (t) => {
  const { who, waba } = await tenant()
  const claimant = await tenant(
    { phone_number_id: null, access_token: meta.state.issueToken({ app_id: platform.id, waba_ids: ['1'] }) },
    waba
  )
  t.equal((await call(claimant.who, 'DELETE', offboardUrl)).is, '204')
  t.strictSame([waba.subscriptions.size, unsubscribeCalls()], [1, 0], 'the account stays subscribed')
  await tenant({ phone_number_id: null }, waba)
  t.equal((await call(who, 'DELETE', offboardUrl)).is, '204')
  t.equal(waba.subscriptions.size, 0)
})

await t.test('an offboarding invalidates the cached configuration of the loader', async (t) => {
  const { id, who } = await tenant()
  t.equal((await app.configLoader.forTenant(id)).hasTenantConfig(), true)
  t.equal((await call(who, 'DELETE', offboardUrl)).is, '204')
  t.equal((await app.configLoader.forTenant(id)).hasTenantConfig(), false)
})
