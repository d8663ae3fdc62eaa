import t from '../../run/tap.js'
import { GraphError } from '../../graph/errors.js'
import { onboardingService, PIN, stepIn } from '../onboarding-service.js'

const service = await onboardingService(t)
const { meta, post, resume, record, issue, newTenant, newWaba, asked, row, records } = service
const BUSINESS = ['whatsapp_business_management', 'whatsapp_business_messaging', 'business_management']
let businesses = 0

/** A business with these accounts; returns its id. */
function newBusiness (owned: string[], client: string[] = []): string {
  const id = `90000${++businesses}`
  meta.state.addBusiness({ id, owned_waba_ids: owned, client_waba_ids: client })
  return id
}

/** A code whose token names no account, but sees these businesses. */
const unnamed = (business_ids: string[] = [], scopes = BUSINESS) => issue({ waba_ids: null, business_ids, scopes })

await t.test('the accounts of a token without names are those of its businesses', async (t) => {
  const [owned, shared, empty] = [newWaba(1), newWaba(1), newWaba(0)]
  for (const [ids, account] of [
    [[newBusiness([owned.id])], owned],
    [[newBusiness([], [shared.id])], shared],
    [[newBusiness([]), newBusiness([empty.id], [owned.id, owned.id])], owned]
  ] as const) {
    const tenant = newTenant()
    t.equal((await post(tenant, { code: unnamed([...ids]) })).is, '201')
    t.match(await row(tenant), { waba_id: account.id, phone_number_id: account.phones[0]?.id })
    t.match(stepIn(await record(tenant), 'assets'), { evidence: { is_discovered: true } })
    await service.sql('delete from tenant_configs')
  }
  const tenant = newTenant()
  const answer = await post(tenant, { code: unnamed([newBusiness([owned.id, shared.id])]) })
  t.equal(answer.is, '409 META_PHONE_CHOICE_REQUIRED')
  t.equal((await resume(tenant, { phone_number_id: String(shared.phones[0]?.id) })).is, '200')
  t.match(await row(tenant), { waba_id: shared.id })
})

await t.test('all pages of the businesses and of their accounts are read, within one time limit', async (t) => {
  const account = newWaba(1)
  const hidden = Array.from({ length: 120 }, (_, i) => `40400${i}`)
  const tenant = newTenant()
  t.equal((await post(tenant, { code: unnamed([newBusiness([...hidden.slice(0, 19), account.id])]) })).is, '201')
  t.match(await row(tenant), { waba_id: account.id })
  const many = Array.from({ length: 120 }, () => newBusiness([]))
  t.equal((await post(newTenant(), { code: unnamed(many) })).is, '409 META_ACCOUNT_REQUIRED')
  t.equal(asked('business_accounts').length, 2 + 2 * 20, 'at most 20 businesses are searched')
  t.equal((await post(newTenant(), { code: unnamed([newBusiness(hidden)]) })).is, '409 META_ACCOUNT_REQUIRED')
})

await t.test('a login without any account waits for its waba_id, and a wrong one ends nothing', async (t) => {
  const [account, foreign] = [newWaba(1), meta.state.addWaba({ app_ids: [] })]
  const refused = new GraphError(403, 200, '(#200) Requires business_management permission')
  for (const [code, fault] of [
    [unnamed(), undefined],
    [unnamed([], BUSINESS.slice(0, 2)), undefined],
    [unnamed([newBusiness([foreign.id])]), undefined],
    [unnamed(['90']), undefined],
    [unnamed([newBusiness([account.id])]), refused]
  ] as const) {
    const tenant = newTenant()
    if (fault !== undefined) meta.fail('businesses', { reply: fault })
    const body = { code, phone_number_id: account.phones[0]?.id, pin: PIN }
    const answer = await post(tenant, body)
    t.equal(answer.is, '409 META_ACCOUNT_REQUIRED')
    t.match(answer.body['detail'], /waba_id/)
    t.notMatch(answer.body['detail'], /this waba_id/)
    t.match(await records(tenant), [{ status: 'in_progress', access_token: /^v2\./ }])
    t.equal((await post(tenant, body)).is, '409 META_ACCOUNT_REQUIRED', 'a replay')
    t.equal((await resume(tenant, { waba_id: foreign.id })).is, '403 META_WABA_NOT_ACCESSIBLE')
    t.equal((await resume(tenant)).is, '403 META_WABA_NOT_ACCESSIBLE')
    t.equal((await resume(tenant, { waba_id: '..' })).is, '400 VALIDATION_FAILED')
    t.match(await records(tenant), [{ status: 'in_progress', access_token: /^v2\./ }])
    const resumed = await resume(tenant, { waba_id: account.id, pin: PIN })
    t.equal(resumed.is, '200')
    t.match(await row(tenant), {
      waba_id: account.id, phone_number_id: account.phones[0]?.id, onboarding_completed: true
    })
    t.match(await records(tenant), [{ status: 'completed', access_token: null, former: null }])
    await service.sql('delete from tenant_configs')
  }
})

await t.test('a passing fault of the search is no missing account', async (t) => {
  const account = newWaba(1)
  for (const route of ['businesses', 'business_accounts'] as const) {
    const tenant = newTenant()
    meta.fail(route, { drop: true })
    t.equal((await post(tenant, { code: unnamed([newBusiness([account.id])]) })).is, '503 META_UNAVAILABLE')
    t.equal((await resume(tenant)).is, '200')
    await service.sql('delete from tenant_configs')
  }
})

await t.test('a resumption of a completed onboarding moves to another account', async (t) => {
  const [one, two] = [newWaba(1), newWaba(1)]
  const tenant = newTenant()
  t.equal((await post(tenant, { code: issue({ waba_ids: [one.id, two.id] }), waba_id: one.id })).is, '201')
  t.equal((await resume(tenant, { waba_id: two.id })).is, '409 META_NUMBER_CHANGED')
  t.match(await row(tenant), { waba_id: one.id })
  t.equal((await resume(tenant, { phone_number_id: String(two.phones[0]?.id) })).is, '200')
  t.match(await row(tenant), { waba_id: two.id, phone_number_id: two.phones[0]?.id })
})
