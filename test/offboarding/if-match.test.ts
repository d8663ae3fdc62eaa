import t from '../run/tap.js'
import { startWithMetaFault } from '../fixtures/fault-injection.js'
import { app as platform } from '../meta/wire.js'
import { config, type Who } from '../routes/client.js'
import { forceOffboardUrl, offboardingService, offboardUrl } from './offboarding-service.js'

const { app, call, log, meta, issue, newWaba, tenant, unsubscribeCalls, assertDeleted } = await offboardingService(t)
const mismatch = '412 PRECONDITION_FAILED'

const etagOf = async (who: Who) => String((await call(who, 'GET', config)).headers.etag)
const offboard = async (who: Who, ifMatch: string, url = offboardUrl) =>
  await call(who, 'DELETE', url, undefined, { 'if-match': ifMatch })

/** Starts an offboarding under a condition; returns once Meta has the unsubscribe call, which takes a while. */
const startOffboarding = async (who: Who, ifMatch: string, url = offboardUrl) =>
  await startWithMetaFault(meta, 'unsubscribe', { latency_ms: 600 }, async () => await offboard(who, ifMatch, url))

await t.test('a version that does not match is a 412, and Meta is not called', async (t) => {
  const { who, waba } = await tenant()
  const stale = await etagOf(who)
  await call(who, 'PUT', config, { verify_token: 'changed' })
  for (const url of [offboardUrl, forceOffboardUrl]) {
    for (const header of [stale, '"x"', `W/${await etagOf(who)}`, '']) {
      t.equal((await offboard(who, header, url)).is, mismatch)
    }
  }
  t.same(meta.requests, [])
  t.equal(waba.subscriptions.size, 1)
  await assertDeleted(t, who, false)
})

await t.test('a version that matches is unsubscribed and deleted', async (t) => {
  for (const header of [etagOf, async () => '*', async (who: Who) => `"x", ${await etagOf(who)}`]) {
    const { who, waba } = await tenant()
    t.equal((await offboard(who, await header(who))).is, '204')
    t.equal(waba.subscriptions.size, 0)
    await assertDeleted(t, who)
  }
})

await t.test('a shared account keeps the app until its last tenant leaves', async (t) => {
  const { who, waba } = await tenant()
  const other = await tenant({}, waba)
  t.equal((await offboard(other.who, await etagOf(other.who))).is, '204')
  t.strictSame([waba.subscriptions.size, unsubscribeCalls()], [1, 0])
  t.equal((await offboard(who, await etagOf(who))).is, '204')
  t.equal(waba.subscriptions.size, 0)
})

for (const url of [offboardUrl, forceOffboardUrl]) {
  await t.test(`a change during ${url.slice(config.length)} keeps the row and restores the subscription`, async (t) => {
    const newToken = issue()
    for (const change of [{ callback_url: 'https://a.example' }, { access_token: newToken }]) {
      const { id, who, waba } = await tenant()
      const { answer } = await startOffboarding(who, await etagOf(who), url)
      t.equal((await call(who, 'PUT', config, change)).is, '200')
      t.equal((await answer).is, mismatch)
      await assertDeleted(t, who, false)
      t.strictSame([...waba.subscriptions], [[platform.id, {}]])
      t.match(log(), new RegExp(`"level":40[^\\n]*"tenant_id":"${id}"[^\\n]*subscribed our app again`))
    }
    t.equal(meta.requests.at(-1)?.headers.authorization, `Bearer ${newToken}`, 'by the token that the row has now')
  })
}

await t.test('with If-Match: * a change during the unsubscription does not keep the row', async (t) => {
  const { who, waba } = await tenant()
  const { answer } = await startOffboarding(who, '*')
  t.equal((await call(who, 'PUT', config, { access_token: issue() })).is, '200')
  waba.subscriptions.set(platform.id, {})
  t.equal((await answer).is, '204')
  await assertDeleted(t, who)
  t.strictSame([waba.subscriptions.size, unsubscribeCalls()], [0, 2])
})

await t.test('the former account of a tenant that moves meanwhile stays unsubscribed', async (t) => {
  const { who, waba } = await tenant()
  const moved = newWaba()
  const { answer } = await startOffboarding(who, await etagOf(who))
  t.equal((await call(who, 'PUT', config, { waba_id: moved.id })).is, '200')
  t.equal((await answer).is, mismatch)
  await assertDeleted(t, who, false)
  t.strictSame([waba.subscriptions.size, moved.subscriptions.size], [0, 1])
})

await t.test('a row that is deleted meanwhile is a 404, and its account stays unsubscribed', async (t) => {
  const { id, who, waba } = await tenant()
  const { answer } = await startOffboarding(who, await etagOf(who))
  t.equal((await call(who, 'DELETE', config)).is, '204')
  t.equal((await answer).is, '404 CONFIG_NOT_FOUND')
  t.equal(waba.subscriptions.size, 0)
  t.equal(await app.tenantConfigs.find(id), null)
})

await t.test('the second of two concurrent calls with one entity tag is a 404', async (t) => {
  for (let i = 0; i < 5; i++) {
    const { who, waba } = await tenant()
    const etag = await etagOf(who)
    const answers = await Promise.all([offboard(who, etag), offboard(who, etag)])
    t.strictSame(answers.map(({ is }) => is).sort(), ['204', '404 CONFIG_NOT_FOUND'])
    t.equal(waba.subscriptions.size, 0)
  }
})
