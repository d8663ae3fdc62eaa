import type { Test } from 'tap'
import t from '../../run/tap.js'
import { verifyStored } from '../../fixtures/verified-rows.js'
import type { Waba } from '../../graph/state.js'
import { app } from '../../meta/wire.js'
import { config } from '../../routes/client.js'
import { callback, onboardingService, stepIn, type Body } from '../onboarding-service.js'

const service = await onboardingService(t)
const { meta, post, configure, record, existing, issue, newWaba, asked, as, call, log } = service
const platform = meta.state.apps.get(app.id)
if (platform === undefined) throw new Error('the stand-in has no app')
platform.callback_url = 'https://platform.example/hook'

/** Creates a tenant for the number at `index` of the account, if any, with its own callback if `hasCallback`. */
async function tenantOn (t: Test, waba: Waba, index: number, hasCallback = true) {
  const hook = await callback(t, `verify ${index}`)
  const phone = waba.phones[index]
  const id = await existing(
    hasCallback ? { callback_url: hook.url, verify_token: `verify ${index}` } : { redirect_url: 'https://a.example' }
  )
  return {
    id,
    hook,
    phone,
    /** Completes an onboarding and returns the evidence of its subscribe step. */
    onboard: async (body: Body = {}) => {
      t.match((await post(id, { code: issue(), waba_id: waba.id, phone_number_id: phone?.id, ...body })).is, '200')
      return stepIn(await record(id), 'subscribe')['evidence']
    },
    /** The callback to which Meta sends the messages of the number. */
    effective: async () => await service.app.metaGraph.effectiveCallback(
      app,
      meta.state.issueToken({ app_id: app.id }),
      String(phone?.id)
    ),
    verified: async () => {
      const { is, body } = await call(as(id), 'POST', `${config}/verify`)
      t.equal(is, '200')
      return body['ok']
    },
    change: async (body: Body) => { t.equal((await configure(id, 'PUT', body)).is, '200') },
    leave: async () => { t.equal((await configure(id, 'DELETE', undefined, '?unsubscribe=true')).is, '204') }
  }
}

await t.test('the callback of each number is that of its tenant, in any order of onboardings', async (t) => {
  const waba = newWaba(2)
  const [a, b] = [await tenantOn(t, waba, 0), await tenantOn(t, waba, 1)]
  const assertOwnCallbacks = async (name: string) => {
    t.same([await a.effective(), await b.effective()], [a.hook.url, b.hook.url], name)
    t.same([await a.verified(), await b.verified()], [true, true], name)
  }
  t.same(await a.onboard(), { waba_id: waba.id, callback: 'account' })
  const before = structuredClone(waba.subscriptions.get(app.id))
  t.same(before, { override: { url: a.hook.url, verify_token: 'verify 0' } })
  meta.requests.length = 0
  t.same(await b.onboard(), { waba_id: waba.id, callback: 'phone_number' })
  t.same(asked().slice(-2).map(({ route }) => route), ['subscriptions', 'phone_override'])
  t.same(b.hook.asked, ['verify 1'], 'Meta verified the callback')
  t.same(waba.subscriptions.get(app.id), before, 'the subscription is unchanged')
  await assertOwnCallbacks('after the second onboarding')
  t.match(await a.onboard(), { callback: 'phone_number' })
  await assertOwnCallbacks('after the first tenant onboarded again')
  t.match(await b.onboard(), { callback: 'phone_number' })
  await assertOwnCallbacks('after the second tenant onboarded again')
  t.equal(asked('subscribe').length, 0)
  await b.leave()
  t.equal(await a.effective(), a.hook.url, 'the other tenant left')
  t.same(waba.subscriptions.get(app.id), before)
})

await t.test('a number with its own callback keeps it when its neighbour leaves', async (t) => {
  const waba = newWaba(2)
  const [a, b] = [await tenantOn(t, waba, 0), await tenantOn(t, waba, 1)]
  await a.onboard()
  await b.onboard()
  await a.leave()
  const next = await callback(t, 'next')
  await b.change({ callback_url: next.url, verify_token: 'next' })
  // The callback of a number is stored outside the records, because retention deletes these.
  await service.sql('delete from onboardings')
  t.match(await b.onboard(), { callback: 'phone_number' })
  t.equal(await b.effective(), next.url)
  t.same(waba.subscriptions.get(app.id), {}, 'no callback of the former tenant is left')
  await b.change({ callback_url: null })
  t.match(await b.onboard(), { callback: 'none' })
  t.equal(await b.effective(), platform.callback_url)
  await b.change({ callback_url: next.url })
  t.match(await b.onboard(), { callback: 'account' })
  t.equal(await b.effective(), next.url)

  await b.leave()
  const nextTenant = await tenantOn(t, waba, 1)
  t.match(await nextTenant.onboard(), { callback: 'account' })
  t.equal(await nextTenant.effective(), nextTenant.hook.url)
})

await t.test('a number with its own callback gets that of its next tenant', async (t) => {
  const waba = newWaba(2)
  const [a, b] = [await tenantOn(t, waba, 0), await tenantOn(t, waba, 1)]
  await a.onboard()
  await b.onboard()
  await b.leave()
  await a.leave()
  const nextTenant = await tenantOn(t, waba, 1)
  t.match(await nextTenant.onboard(), { callback: 'phone_number' })
  t.equal(await nextTenant.effective(), nextTenant.hook.url)
})

await t.test('an account that is shared but not subscribed is subscribed with a callback per number', async (t) => {
  const waba = newWaba(2)
  const [a, b] = [await tenantOn(t, waba, 0), await tenantOn(t, waba, 1)]
  await a.change({ waba_id: waba.id, phone_number_id: a.phone?.id })
  await verifyStored(service.app, a.id)
  t.match(await b.onboard(), { callback: 'phone_number' })
  t.same(asked().slice(-3).map(({ route }) => route), ['subscriptions', 'subscribe', 'phone_override'])
  t.match(await a.onboard(), { callback: 'phone_number' })
  t.same([await a.effective(), await b.effective()], [a.hook.url, b.hook.url])
})

await t.test('a tenant that is verified on an account without a number does not share it', async (t) => {
  const waba = newWaba(2)
  const [a, b] = [await tenantOn(t, waba, 0), await tenantOn(t, waba, 1)]
  await a.change({ waba_id: waba.id })
  await verifyStored(service.app, a.id)
  t.match(await b.onboard(), { callback: 'account' })
  t.same(asked().slice(-2).map(({ route }) => route), ['subscribe', 'override'])
})

await t.test('an onboarding without a callback or a number changes no callback of the account', async (t) => {
  const waba = newWaba(2)
  const a = await tenantOn(t, waba, 0)
  await a.onboard()
  const before = structuredClone(waba.subscriptions.get(app.id))
  const without = await tenantOn(t, waba, 1, false)
  t.match(await without.onboard(), { callback: 'none' })
  t.match(
    log(),
    new RegExp(`"level":40[^\\n]*"tenant_id":"${without.id}"[^\\n]*an account it shares`),
    'the log says where the messages go'
  )
  t.same(waba.subscriptions.get(app.id), before)

  const bare = newWaba(0)
  const numberless = await tenantOn(t, bare, 0)
  const neighbour = await tenantOn(t, bare, 1)
  await neighbour.change({ waba_id: bare.id, phone_number_id: 'any' })
  await verifyStored(service.app, neighbour.id)
  t.match(await numberless.onboard(), { callback: 'none' })
  t.same(asked().slice(-2).map(({ route }) => route), ['subscriptions', 'subscribe'])
  t.same(bare.subscriptions.get(app.id), {})
})

await t.test('two tenants without callbacks share an account without a warning', async (t) => {
  const waba = newWaba(2)
  const [a, b] = [await tenantOn(t, waba, 0, false), await tenantOn(t, waba, 1, false)]
  t.match(await a.onboard(), { callback: 'none' })
  t.match(await b.onboard(), { callback: 'none' })
  t.notMatch(log(), new RegExp(`"level":40[^\\n]*"tenant_id":"${b.id}"[^\\n]*an account it shares`))
})

await t.test('an onboarding with a refused number callback is resumed after a correction', async (t) => {
  const waba = newWaba(2)
  const [a, b] = [await tenantOn(t, waba, 0), await tenantOn(t, waba, 1)]
  await a.onboard()
  await b.change({ verify_token: 'not what it knows' })
  t.equal(
    (await post(b.id, { code: issue(), waba_id: waba.id, phone_number_id: b.phone?.id })).is,
    '409 META_CALLBACK_REFUSED'
  )
  t.equal(await a.effective(), a.hook.url)
  await b.change({ verify_token: 'verify 1' })
  t.equal((await service.resume(b.id)).is, '200')
  t.same([await a.effective(), await b.effective()], [a.hook.url, b.hook.url])
})
