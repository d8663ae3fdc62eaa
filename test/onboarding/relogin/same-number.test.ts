import t from '../../run/tap.js'
import { app } from '../../meta/wire.js'
import { callback, onboardingService, stepIn } from '../onboarding-service.js'

const service = await onboardingService(t)
const { meta, post, resume, record, configure, issue, newTenant, newWaba, asked, row, records } = service

/** A tenant whose number is verified on an account with so many numbers. */
async function verified (count = 1) {
  const account = newWaba(count)
  const tenant = newTenant()
  const phone = account.phones[0]?.id
  t.equal((await post(tenant, { code: issue(), waba_id: account.id, phone_number_id: phone })).is, '201')
  return { tenant, account, phone }
}

const numbersOf = (...wabas: Array<ReturnType<typeof newWaba>>) =>
  wabas.flatMap(({ phones }) => phones).map(({ id }) => ({ id }))

await t.test('a login whose accounts have the number of the tenant takes it without a question', async (t) => {
  const { tenant, account, phone } = await verified(3)
  const [other, empty] = [newWaba(2), newWaba(0)]
  for (const body of [
    { code: issue(), waba_id: account.id },
    { code: issue(), waba_id: account.id, phone_number_id: phone },
    { code: issue({ waba_ids: [other.id, account.id, empty.id] }) },
    { code: issue({ waba_ids: [other.id, account.id] }), phone_number_id: phone },
    // The account of the dialog is not the only one that was granted.
    { code: issue({ waba_ids: [other.id, account.id] }), waba_id: other.id },
    { code: issue({ waba_ids: [account.id, empty.id] }), waba_id: empty.id }
  ]) {
    t.equal((await post(tenant, body)).is, '200', JSON.stringify(body))
    t.match(await row(tenant), { waba_id: account.id, phone_number_id: phone, onboarding_completed: true })
  }
  t.same(asked('unsubscribe'), [])
})

await t.test('a login for another number changes nothing and lists the granted ones', async (t) => {
  const { tenant, account, phone } = await verified(2)
  const [other, empty] = [newWaba(2), newWaba(0)]
  const before = await row(tenant)
  for (const [body, choices] of [
    [{ code: issue(), waba_id: account.id, phone_number_id: account.phones[1]?.id }, numbersOf(account)],
    [{ code: issue({ waba_ids: [other.id] }), waba_id: other.id }, numbersOf(other)],
    [{ code: issue({ waba_ids: [other.id] }) }, numbersOf(other)],
    [{ code: issue({ waba_ids: [other.id] }), phone_number_id: other.phones[0]?.id }, numbersOf(other)],
    [{ code: issue({ waba_ids: [other.id] }), phone_number_id: phone }, numbersOf(other)],
    [{ code: issue({ waba_ids: [empty.id] }) }, []],
    // The token may not see the other account that it names.
    [{ code: issue({ waba_ids: [other.id, '404'] }), waba_id: other.id }, numbersOf(other)]
  ] as const) {
    const answer = await post(tenant, body)
    t.equal(answer.is, '409 META_NUMBER_CHANGED', JSON.stringify(body))
    t.match(answer.body['phone_numbers'], choices)
    t.match(answer.body['detail'], /phone_number_id/)
    t.equal((await resume(tenant)).is, '409 META_NUMBER_CHANGED', 'a resumption that names no number')
    t.same(await row(tenant), before)
    t.match((await record(tenant)).body, { status: 'in_progress' })
  }
  t.equal((await post(tenant, { code: issue(), waba_id: account.id, phone_number_id: '404' })).is,
    '403 META_PHONE_NOT_IN_WABA')
  t.same(await row(tenant), before)
  t.same(asked().filter(({ method }) => method !== 'GET').map(({ route }) => route),
    ['access_token', 'subscribe', ...Array(8).fill('access_token')], 'after the first login only codes were sent')
})

await t.test('a fault while the present number is looked for elsewhere is no change', async (t) => {
  const { tenant, account } = await verified()
  const other = newWaba(1)
  meta.fail('phone_numbers', {})
  meta.fail('phone_numbers', { drop: true })
  const body = { code: issue({ waba_ids: [account.id, other.id] }), waba_id: other.id }
  t.equal((await post(tenant, body)).is, '503 META_UNAVAILABLE')
  t.equal((await resume(tenant)).is, '200')
  t.match(await row(tenant), { waba_id: account.id })
})

await t.test('a resumption that names the number accepts the change, and the former account is left', async (t) => {
  const { tenant, account, phone } = await verified()
  const other = newWaba(2)
  const formerToken = service.lastToken()
  t.ok(account.subscriptions.has(app.id))
  const next = String(other.phones[1]?.id)
  t.equal((await post(tenant, { code: issue({ waba_ids: [other.id] }), phone_number_id: next })).is,
    '409 META_NUMBER_CHANGED')
  t.equal((await resume(tenant, { phone_number_id: next })).is, '200')
  t.match(await row(tenant), { waba_id: other.id, phone_number_id: next, onboarding_completed: true })
  t.same([account.subscriptions.has(app.id), other.subscriptions.has(app.id)], [false, true])
  t.equal(asked('unsubscribe')[0]?.headers.authorization, `Bearer ${formerToken}`)
  t.match(await service.sql('select * from phone_numbers where tenant_id = $1', [tenant]), [{ phone_number_id: next }])
  t.match((await records(tenant)).at(-1), { former: null, access_token: null })
  t.not(phone, next)
})

await t.test('the former account keeps our app while another tenant has a number there', async (t) => {
  const { tenant, account } = await verified(2)
  const neighbour = newTenant()
  const theirs = account.phones[1]?.id
  t.equal((await post(neighbour, { code: issue(), waba_id: account.id, phone_number_id: theirs })).is, '201')
  const other = newWaba(1)
  const next = String(other.phones[0]?.id)
  await post(tenant, { code: issue({ waba_ids: [other.id] }) })
  t.equal((await resume(tenant, { phone_number_id: next })).is, '200')
  t.same(asked('unsubscribe'), [])
  t.ok(account.subscriptions.has(app.id))
})

await t.test('a former number with its own callback loses it where the account stays', async (t) => {
  meta.state.app(app.id).callback_url = 'https://platform.example/'
  const { url } = await callback(t, 'verify')
  const account = newWaba(3)
  const [tenant, neighbour] = [newTenant(), newTenant()]
  const [first, second, third] = account.phones.map(({ id }) => id)
  t.equal((await post(neighbour, { code: issue(), waba_id: account.id, phone_number_id: first })).is, '201')
  await configure(tenant, 'POST', { callback_url: url, verify_token: 'verify' })
  t.equal((await post(tenant, { code: issue(), waba_id: account.id, phone_number_id: second })).is, '200')
  t.equal(account.phones[1]?.override?.url, url)
  await post(tenant, { code: issue(), waba_id: account.id, phone_number_id: third })
  t.equal((await resume(tenant, { phone_number_id: String(third) })).is, '200')
  t.same(account.phones.map(({ override }) => override?.url), [undefined, undefined, url])
  t.match(await service.sql('select phone_number_id from phone_callbacks'), [{ phone_number_id: third }])
  t.same(asked('unsubscribe'), [])
})

await t.test('a former account whose token is refused does not hold up the change', async (t) => {
  for (const fault of ['revoked', 'other app', 'unreadable'] as const) {
    const { tenant } = await verified()
    const token = meta.state.tokens.get(String(service.lastToken()))
    if (fault === 'revoked' && token !== undefined) token.revoked = 458
    if (fault === 'other app' && token !== undefined) token.app = meta.state.addApp({ require_proof: true })
    if (fault === 'unreadable') {
      await service.sql("update tenant_configs set access_token = 'v1.k1.broken' where tenant_id = $1", [tenant])
    }
    const other = newWaba(1)
    const next = String(other.phones[0]?.id)
    await post(tenant, { code: issue({ waba_ids: [other.id] }) })
    t.equal((await resume(tenant, { phone_number_id: next })).is, '200', fault)
    t.match(service.log(), 'could not end the webhooks of a number that the tenant had before')
    t.match(stepIn(await record(tenant), 'subscribe'), { status: 'done' })
  }
})

await t.test('a former account is left although Meta was away at first', async (t) => {
  const { tenant, account } = await verified()
  const other = newWaba(1)
  const next = String(other.phones[0]?.id)
  await post(tenant, { code: issue({ waba_ids: [other.id] }) })
  meta.fail('unsubscribe', { drop: true })
  t.equal((await resume(tenant, { phone_number_id: next })).is, '503 META_UNAVAILABLE')
  t.match((await records(tenant)).at(-1), { former: { waba_id: account.id } })
  t.ok(account.subscriptions.has(app.id))
  t.equal((await resume(tenant)).is, '200')
  t.notOk(account.subscriptions.has(app.id))
})

await t.test('a tenant that moves onto the former account meanwhile keeps our app there', async (t) => {
  const { tenant, account } = await verified(2)
  const other = newWaba(1)
  await post(tenant, { code: issue({ waba_ids: [other.id] }) })
  const { answer } = await service.startWithMetaFault('unsubscribe', { latency_ms: 800 },
    async () => await resume(tenant, { phone_number_id: String(other.phones[0]?.id) }))
  const neighbour = newTenant()
  const theirs = account.phones[1]?.id
  t.equal((await post(neighbour, { code: issue(), waba_id: account.id, phone_number_id: theirs })).is, '201')
  t.equal((await answer).is, '200')
  t.ok(account.subscriptions.has(app.id))
})

await t.test('a first login, and one after an unverified change of the number, ask as before', async (t) => {
  const { tenant, account } = await verified(1)
  const other = newWaba(2)
  await configure(tenant, 'PUT', { phone_number_id: 'unverified' })
  t.equal((await post(tenant, { code: issue({ waba_ids: [other.id] }) })).is, '409 META_PHONE_CHOICE_REQUIRED')
  t.equal((await resume(tenant, { phone_number_id: String(other.phones[0]?.id) })).is, '200')
  t.match(await row(tenant), { waba_id: other.id, phone_number_id: other.phones[0]?.id })
  t.ok(account.subscriptions.has(app.id), 'an unverified identity is not left')
  t.same(asked('unsubscribe'), [])
})
