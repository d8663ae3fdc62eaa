import t from '../../run/tap.js'
import { GraphError, registerRefused } from '../../graph/errors.js'
import { latestOnboarding } from '../../../src/onboarding/onboardings.sql.js'
import { createOutcomes } from '../../../src/onboarding/outcomes.js'
import { recordExtension } from '../../token-watch/extension-record.js'
import { PIN } from '../onboarding-service.js'
import { retriesService } from './retries-service.js'

const service = await retriesService(t, { GRAPH_TIMEOUT_MS: 1500 })
const { meta, post, issue, newTenant, newWaba, row, eventsOf, retryOf, makeDue, untilStatus, ownLogin } = service

await t.test('a refusal, a missing choice or PIN waits for a person, and tells what for', async (t) => {
  const account = newWaba(2)
  const [choice, pin, callback, permission] = [newTenant(), newTenant(), newTenant(), newTenant()]
  await post(choice, { code: issue(), waba_id: account.id })
  meta.fail('register', { reply: registerRefused(133005) })
  await post(pin, ownLogin({ pin: PIN }))
  await service.configure(callback, 'POST', { callback_url: 'https://no.example/', verify_token: 'v' })
  meta.state.app('670843887433847').callback_url = 'https://platform.example/'
  meta.fail('override', { reply: new GraphError(400, 2200, '(#2200) Callback verification failed') })
  await post(callback, ownLogin())
  meta.fail('subscribe', { reply: new GraphError(403, 10, '(#10) Permission denied') })
  await post(permission, ownLogin())
  const account2 = newTenant()
  await post(account2, { code: issue({ waba_ids: [] }) })
  const transient = newTenant()
  meta.fail('register', { reply: registerRefused(133004) })
  t.equal((await post(transient, ownLogin({ pin: PIN }))).is, '503 META_UNAVAILABLE')
  const unsent = newTenant()
  meta.fail('access_token', { reply: new GraphError(400, 100, 'x', { error_subcode: 36007 }) })
  await post(unsent, ownLogin())
  for (const [tenant, ...event] of [
    [choice, 'onboarding.waiting', 'phone_number_id'], [pin, 'onboarding.waiting', 'pin'],
    [callback, 'onboarding.waiting', 'callback_url'], [permission, 'onboarding.waiting', 'META_PERMISSION_MISSING'],
    [account2, 'onboarding.waiting', 'waba_id'], [transient, 'onboarding.waiting', 'pin'],
    [unsent, 'onboarding.failed', 'META_CODE_EXPIRED']
  ] as const) {
    t.same(eventsOf(tenant), [event])
    t.match(await retryOf(tenant), { wait: null })
  }
})

await t.test('an exchange that ended meanwhile is not failed', async (t) => {
  const { app: { database, events } } = service
  const tenant = newTenant()
  t.equal((await post(tenant, ownLogin())).is, '201')
  const record = await latestOnboarding(database, tenant)
  if (record === null) throw new Error('no record')
  await createOutcomes({ database, events }).failLostExchange(record)
  t.same(eventsOf(tenant), [['onboarding.completed', null]])
  t.match(await retryOf(tenant), { status: 'completed' })
})

await t.test('the state of a number that an onboarding finds is an event', async (t) => {
  const account = newWaba([{ status: 'RESTRICTED' }])
  const tenant = newTenant()
  t.equal((await post(tenant, { code: issue(), waba_id: account.id })).is, '201')
  t.same(service.allEventsOf(tenant).map(({ type, to, reason }) => [type, to, reason]), [
    ['number.restricted', 'restricted', 'RESTRICTED'], ['onboarding.completed', 'completed', null]
  ])
})

await t.test('what a tenant stores after its login is not replaced without a request', async (t) => {
  const tenant = newTenant()
  await service.configure(tenant, 'POST', { access_token: 'a-token-of-before', waba_id: 'w' })
  meta.fail('debug_token', { drop: true })
  await post(tenant, ownLogin())
  await service.configure(tenant, 'PUT', { access_token: 'a-newer-token' })
  const before = await row(tenant)
  await makeDue(tenant)
  await untilStatus(tenant, 'failed')
  t.same(await row(tenant), before)
  t.same(eventsOf(tenant), [['onboarding.failed', 'ONBOARDING_SUPERSEDED']])

  // An extension of the stored token is no change of the tenant's.
  const { app } = service
  const extended = newTenant()
  const first = ownLogin()
  t.equal((await post(extended, first)).is, '201')
  meta.fail('debug_token', { drop: true })
  await post(extended, { ...first, code: issue() })
  const stored = String((await row(extended))?.['access_token'])
  const claim = String((await app.tokenWatch.healthOf(extended))?.next_check_at)
  const sealed = app.vault.seal('longer', extended, 'access_token')
  await recordExtension(app, extended, { stored, claim }, { sealed, expires_at: null })
  t.equal((await row(extended))?.['access_token'], sealed)
  await makeDue(extended)
  await untilStatus(extended, 'completed')
})
