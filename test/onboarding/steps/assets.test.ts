import t from '../../run/tap.js'
import { GraphError } from '../../graph/errors.js'
import { faults } from '../../graph/faults.js'
import { app } from '../../meta/wire.js'
import { onboardingService, stepIn, stepsOf } from '../onboarding-service.js'

const service = await onboardingService(t, { GRAPH_TIMEOUT_MS: 1500 })
const { meta, waba, post, resume, record, login, issue, newTenant, newWaba, asked, row, records } = service

/** The numbers of the WABAs as an answer lists them. */
const choices = (...wabas: Array<typeof waba>) =>
  wabas.flatMap(({ phones }) => phones).map(({ id, display_phone_number: shown, verified_name: name }) => ({
    id,
    display_phone_number: shown,
    verified_name: name
  }))

/** The stored identity of a tenant: WABA, phone number, `onboarding_completed`. */
async function identity (tenant: string) {
  const { waba_id: wabaId, phone_number_id: phoneId, onboarding_completed: completed } = await row(tenant) ?? {}
  return [wabaId, phoneId, completed]
}

await t.test('the stored number depends on the claimed ids and the numbers of the account', async (t) => {
  for (const claimsWaba of [true, false]) {
    for (const claimsPhone of [true, false]) {
      for (const count of [0, 1, 3]) {
        const account = newWaba(count)
        const phone = claimsPhone ? account.phones.at(-1)?.id ?? 'none' : undefined
        const tenant = newTenant()
        const answer = await post(tenant, {
          code: issue({ waba_ids: [account.id] }),
          waba_id: claimsWaba ? account.id : undefined,
          phone_number_id: phone
        })
        const name = `${claimsWaba ? 'WABA' : 'no WABA'}, ${claimsPhone ? 'number' : 'no number'}, ${count} numbers`
        if (claimsPhone ? count > 0 : count < 2) {
          const chosen = phone ?? account.phones[0]?.id ?? null
          t.equal(answer.is, '201', name)
          t.same(await identity(tenant), [account.id, chosen, true], name)
          t.match(stepIn(await record(tenant), 'assets'), {
            status: 'done',
            evidence: {
              waba_id: account.id,
              phone_number_id: chosen,
              is_discovered: !claimsWaba,
              has_phone_number: chosen !== null
            }
          })
        } else {
          t.equal(answer.is, claimsPhone ? '403 META_PHONE_NOT_IN_WABA' : '409 META_PHONE_CHOICE_REQUIRED', name)
          t.same(answer.body['phone_numbers'], claimsPhone ? undefined : choices(account), name)
          t.equal(await row(tenant), undefined)
        }
      }
    }
  }
})

await t.test('a resumption chooses one of several numbers', async (t) => {
  const account = newWaba(3)
  const tenant = newTenant()
  const body = { code: issue(), waba_id: account.id }
  const first = await post(tenant, body)
  t.equal(first.is, '409 META_PHONE_CHOICE_REQUIRED')
  t.match(first.body, { detail: /phone_numbers/, phone_numbers: choices(account) })
  t.match(stepIn(await record(tenant), 'assets'), {
    status: 'failed',
    evidence: { phone_numbers: choices(account) },
    error: { code: 'META_PHONE_CHOICE_REQUIRED', meta_code: null }
  })
  t.same((await post(tenant, body)).body['phone_numbers'], choices(account), 'a replay lists the choices again')
  t.equal(asked('phone_numbers').length, 1)
  t.equal((await resume(tenant)).is, '409 META_PHONE_CHOICE_REQUIRED', 'a resumption without a number')
  t.equal((await resume(tenant, { phone_number_id: 'none of them' })).is, '403 META_PHONE_NOT_IN_WABA')
  t.equal((await resume(tenant, { phone_number_id: String(account.phones[1]?.id) })).is, '200')
  t.same(await identity(tenant), [account.id, account.phones[1]?.id, true])
  t.match(stepsOf(await record(tenant)), [
    'exchange done 1', 'inspect done 1', 'assets done 4', 'store done 1', 'subscribe done 1', 'register skipped 1',
    'done done 1'
  ])
  t.equal((await post(tenant, body)).is, '200')
})

await t.test('an onboarding that waits for a choice is superseded by a newer login', async (t) => {
  const tenant = newTenant()
  const body = { code: issue(), waba_id: newWaba(2).id }
  await post(tenant, body)
  t.equal((await post(tenant, login(tenant))).is, '201')
  t.equal((await post(tenant, body)).is, '409 ONBOARDING_SUPERSEDED')
  t.match(await records(tenant), [
    { status: 'failed', access_token: null }, { status: 'completed', access_token: null }
  ])
  t.equal((await resume(tenant)).is, '200')
})

await t.test('the WABA is found among those that the token names and may read, in any order', async (t) => {
  const [one, two, empty, hidden] = [newWaba(1), newWaba(2), newWaba(0), meta.state.addWaba({ app_ids: [] })]
  const found = async (wabaIds: string[] | null, body = {}) => {
    const tenant = newTenant()
    const answer = await post(tenant, { code: issue({ waba_ids: wabaIds }), ...body })
    return { tenant, answer, stored: (await identity(tenant)).slice(0, 2) }
  }
  for (const wabaIds of [[one.id, empty.id, hidden.id], [hidden.id, empty.id, one.id, '404'], [empty.id, one.id]]) {
    const { answer, stored } = await found(wabaIds)
    t.same([answer.is, ...stored], ['201', one.id, one.phones[0]?.id], 'the only number of all accounts')
    await service.sql('delete from tenant_configs')
  }
  for (const wabaIds of [[one.id, two.id], [two.id, hidden.id, one.id]]) {
    const { tenant, answer } = await found(wabaIds)
    const numbers = choices(
      ...wabaIds.map((id) => [one, two].find((waba) => waba.id === id)).flatMap((waba) => waba ?? [])
    )
    t.same([answer.is, answer.body['phone_numbers']], ['409 META_PHONE_CHOICE_REQUIRED', numbers])
    const wanted = String(two.phones[1]?.id)
    t.equal((await resume(tenant, { phone_number_id: wanted })).is, '200')
    t.same((await identity(tenant)).slice(0, 2), [two.id, wanted])
    await service.sql('delete from tenant_configs')
  }
  const claimed = await found([one.id, two.id], { phone_number_id: two.phones[0]?.id })
  t.same([claimed.answer.is, ...claimed.stored], ['201', two.id, two.phones[0]?.id])
  t.match((await found([empty.id])).stored, [empty.id, null])
  t.match((await found([empty.id, newWaba(0).id])).answer, {
    is: '409 META_ACCOUNT_REQUIRED',
    body: { detail: /Name it as waba_id/ }
  })
  for (const wabaIds of [
    [], [hidden.id], ['404', hidden.id], null
  ]) t.equal((await found(wabaIds)).answer.is, '409 META_ACCOUNT_REQUIRED', String(wabaIds))
  t.equal(
    (await found([one.id], { code: issue({ waba_ids: [one.id], scopes: ['whatsapp_business_messaging'] }) })).answer.is,
    '403 META_PERMISSION_MISSING',
    'the token names the account but may not read it'
  )

  const tenant = newTenant()
  meta.fail('phone_numbers', faults.dropBefore)
  t.equal((await post(tenant, { code: issue({ waba_ids: [one.id] }) })).is, '503 META_UNAVAILABLE')
  await service.sql(
    "update onboardings set steps = jsonb_set(steps, '{1,evidence}', 'null') where tenant_id = $1",
    [tenant]
  )
  t.equal((await resume(tenant)).is, '409 META_ACCOUNT_REQUIRED', 'the record names no account')

  meta.fail('debug_token', { patch: { data: { granular_scopes: 'none' } } })
  t.equal((await found([one.id])).answer.is, '409 META_ACCOUNT_REQUIRED')
})

await t.test('a failed discovery returns the error of Meta, and has one time limit and 20 calls', async (t) => {
  const accounts = Array.from({ length: 25 }, () => newWaba(0))
  for (const [fault, code] of [
    [{ reply: new GraphError(400, 190, 'x') }, '400 META_TOKEN_INVALID'],
    [{ latency_ms: 60_000 }, '504 META_TIMEOUT']
  ] as const) {
    meta.fail('phone_numbers', fault)
    t.equal((await post(newTenant(), { code: issue({ waba_ids: accounts.map(({ id }) => id) }) })).is, code)
    t.equal(asked('phone_numbers').length, 1)
    meta.requests.length = 0
  }
  meta.fail('phone_numbers', { latency_ms: 400, times: Infinity })
  const began = Date.now()
  t.equal((await post(newTenant(), { code: issue({ waba_ids: accounts.map(({ id }) => id) }) })).is, '504 META_TIMEOUT')
  t.ok(Date.now() - began < 4000)
  meta.clearFaults()
  meta.requests.length = 0
  await post(newTenant(), { code: issue({ waba_ids: accounts.map(({ id }) => id) }) })
  t.equal(asked('phone_numbers').length, 20, 'at most 20 accounts are read')
})

await t.test('a number on a later page is found and is among the choices', async (t) => {
  const tenant = newTenant()
  t.equal((await post(tenant, login(tenant, { phone_number_id: '250' }))).is, '201')
  t.equal(asked('phone_numbers').length, 3)
  const choosing = newTenant()
  const { is, body } = await post(choosing, login(choosing, { phone_number_id: undefined }))
  t.same([is, body['phone_numbers']], ['409 META_PHONE_CHOICE_REQUIRED', choices(waba)])
})

await t.test('missing scopes are logged and recorded, but do not fail the onboarding', async (t) => {
  const tenant = newTenant()
  const scopes = ['whatsapp_business_manage_events', 'public_profile']
  t.equal((await post(tenant, login(tenant, { code: issue({ scopes }) }))).is, '201')
  t.match(
    stepIn(await record(tenant), 'inspect'),
    {
      evidence: {
        app_id: app.id,
        type: 'SYSTEM_USER',
        scopes,
        missing_scopes: ['whatsapp_business_management', 'whatsapp_business_messaging']
      }
    }
  )
  t.match(service.log(), /"missing":\["whatsapp_business_management","whatsapp_business_messaging"\]/)
  const discovered = newTenant()
  const account = newWaba(1)
  t.equal(
    (await post(discovered, { code: issue({ scopes, waba_ids: [account.id] }) })).is,
    '201',
    'a discovery works with other scopes'
  )
})

await t.test('a resumption with a PIN finds and registers a number that was added later', async (t) => {
  const account = newWaba(0)
  const tenant = newTenant()
  const body = { code: issue(), waba_id: account.id, pin: '123456' }
  const first = await post(tenant, body)
  t.match(first, { is: '409 META_REGISTER_REFUSED', body: { detail: /no phone number to register yet/ } })
  t.same(await identity(tenant), [account.id, null, false])
  t.equal(asked('register').length, 0)
  t.equal((await resume(tenant, { pin: '123456' })).is, '409 META_REGISTER_REFUSED', 'the account still has no number')
  account.phones.push(...newWaba(1).phones)
  t.equal((await resume(tenant)).is, '409 META_REGISTER_REFUSED', 'the pin was not stored')
  t.equal((await resume(tenant, { pin: '123456' })).is, '200')
  t.same(await identity(tenant), [account.id, account.phones[0]?.id, true])
  t.equal(account.phones[0]?.registered, true)
})
