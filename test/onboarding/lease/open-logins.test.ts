import { setTimeout as delay } from 'node:timers/promises'
import t from '../../run/tap.js'
import { GraphError, temporarilyDown } from '../../graph/errors.js'
import { until } from '../../helper.js'
import { onboard } from '../../routes/client.js'
import { onboardingService, stepIn, stepsOf, unreachableMeta } from '../onboarding-service.js'

const REDIRECT = 'https://a.example/cb'
const service = await onboardingService(t)
const {
  meta, waba, post, resume, record, configure, login, issue, newTenant, newWaba, asked, row, records, instance, as,
  startWithMetaFault
} = service
const unreachable = await instance(unreachableMeta)

/** Creates a tenant whose login waits for the choice of a number; returns it with the id of its record. */
async function tenantWithOpenLogin () {
  const tenant = newTenant()
  t.equal((await post(tenant, { code: issue(), waba_id: waba.id })).is, '409 META_PHONE_CHOICE_REQUIRED')
  return { tenant, id: (await record(tenant)).body['id'] }
}

await t.test('a waiting login stays resumable after a later login failed', async (t) => {
  for (const [code, at, further] of [
    ['400 META_CODE_INVALID', service, { code: 'refused' }],
    ['503 META_UNAVAILABLE', unreachable, {}],
    ['403 META_WABA_NOT_ACCESSIBLE', service, { waba_id: '404' }]
  ] as const) {
    const { tenant, id } = await tenantWithOpenLogin()
    t.equal((await at.post(tenant, login(tenant, further))).is, code)
    t.equal((await records(tenant)).length, 2)
    const shown = await record(tenant)
    t.match(shown.body, { id, status: 'in_progress' }, code)
    t.match(stepIn(shown, 'assets'), { error: { code: 'META_PHONE_CHOICE_REQUIRED' } })
    t.equal((await resume(tenant, { phone_number_id: '250' })).is, '200')
    t.match(await row(tenant), { phone_number_id: '250', onboarding_completed: true })
    t.match((await record(tenant)).body, { id, status: 'completed' })
    // The next case verifies the same number for another tenant.
    await configure(tenant, 'DELETE')
  }
})

await t.test('a later login that stored its credentials ends a waiting one before it completes', async (t) => {
  const { tenant, id } = await tenantWithOpenLogin()
  meta.fail('subscribe', { reply: temporarilyDown() })
  t.equal((await post(tenant, login(tenant))).is, '503 META_UNAVAILABLE')
  t.match(await records(tenant), [
    { id, status: 'failed', access_token: null, holder: null },
    { status: 'in_progress', access_token: /^v2\./ }
  ])
  const shown = await record(tenant)
  t.not(shown.body['id'], id)
  t.match(stepIn(shown, 'subscribe'), { status: 'failed' })
  t.equal((await resume(tenant)).is, '200')
  t.match(await row(tenant), { phone_number_id: /\d+/.exec(tenant)?.[0], onboarding_completed: true })
})

await t.test('an onboarding with a permission missing at the subscribe step stays resumable', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  meta.fail('subscribe', { reply: new GraphError(403, 10, '(#10) Permission denied') })
  for (let times = 0; times < 2; times++) t.equal((await post(tenant, body)).is, '403 META_PERMISSION_MISSING')
  t.equal(asked('subscribe').length, 1)
  t.match(await records(tenant), [{ status: 'in_progress', access_token: /^v2\./ }])
  t.equal((await resume(tenant)).is, '200')
})

await t.test('a login with two accounts without numbers must name its account', async (t) => {
  const [one, two] = [newWaba(0), newWaba(0)]
  const tenant = newTenant()
  const { is, body } = await post(tenant, { code: issue({ waba_ids: [one.id, two.id] }) })
  t.equal(is, '409 META_ACCOUNT_REQUIRED')
  t.match(body['detail'], /Name it as waba_id/)
  t.match(stepIn(
    await record(tenant),
    'assets'
  ), { status: 'failed', evidence: null, error: { advice: body['detail'], meta_code: null } })
  t.match(await records(tenant), [{ status: 'in_progress', access_token: /^v2\./ }])
  t.equal((await resume(tenant, { waba_id: two.id })).is, '200')
  t.match(await row(tenant), { waba_id: two.id, phone_number_id: null })
})

await t.test('a verified name with characters that PostgreSQL rejects does not prevent the choice', async (t) => {
  const account = newWaba([{ verified_name: 'NUL \0 within' }, { verified_name: 'half a \ud83d pair' }])
  const kept = ['NUL  within', 'half a \ufffd pair']
  const tenant = newTenant()
  const body = { code: issue(), waba_id: account.id }
  const numbers = account.phones.map(({ id }) => ({ id }))
  t.match(await post(tenant, body), { is: '409 META_PHONE_CHOICE_REQUIRED', body: { phone_numbers: numbers } })
  t.match(
    await post(tenant, body),
    {
      is: '409 META_PHONE_CHOICE_REQUIRED',
      body: { phone_numbers: numbers.map(({ id }, i) => ({ id, verified_name: kept[i] })) }
    },
    'a replay'
  )
  t.match(stepIn(await record(tenant), 'assets'), { evidence: { phone_numbers: numbers } })
  t.equal((await resume(tenant, { phone_number_id: String(numbers[1]?.id) })).is, '200')
})

await t.test('a code that was never sent is not sent with a redirect_uri that is not allowed', async (t) => {
  const [strict, nowhere] = [
    await instance({ OAUTH_REDIRECT_URIS: REDIRECT }),
    await instance({ OAUTH_REDIRECT_URIS: REDIRECT, ...unreachableMeta })
  ]
  const tenant = newTenant()
  const body = login(tenant, { code: issue({ redirect_uri: REDIRECT }), redirect_uri: REDIRECT })
  t.equal((await nowhere.post(tenant, body)).is, '503 META_UNAVAILABLE')
  t.equal(
    (await strict.post(tenant, { ...body, redirect_uri: 'https://evil.example/cb' })).is,
    '400 REDIRECT_URI_NOT_ALLOWED'
  )
  t.same(asked(), [])
  t.equal((await strict.post(tenant, body)).is, '201')
  t.equal(
    (await strict.post(tenant, { ...body, redirect_uri: 'https://evil.example/cb' })).is,
    '200',
    'the redirect_uri of a spent code is not checked'
  )
})

await t.test('a burst of logins of one tenant leaves connections for the other tenants', async (t) => {
  const [busy, other] = [newTenant(), newTenant()]
  await post(other, login(other))
  meta.requests.length = 0
  meta.fail('access_token', { latency_ms: 200, times: Infinity })
  const burst = Array.from({ length: 200 }, async () => await post(busy, login(busy)))
  await until(() => asked('access_token').length > 0)
  const answers: string[] = []
  while (asked('access_token').length < 55) {
    answers.push((await configure(other, 'GET')).is)
    await delay(20)
  }
  t.ok(answers.length > 20)
  t.same([...new Set(answers)], ['200'])
  const is = (await Promise.all(burst)).map(({ is }) => is)
  t.equal(is.filter((is) => is === '429 RATE_LIMITED').length, 145, '5 logins run and 50 wait')
  for (const each of is) t.match(each, /^(20[01]|409 ONBOARDING_SUPERSEDED|429 RATE_LIMITED)$/)
  t.equal(new Set(asked('access_token').map(({ form }) => form['code'])).size, 55)
  t.match(await row(busy), { onboarding_completed: true })
})

await t.test('a closing service stores the token of a running exchange without its client', async (t) => {
  const closing = await instance()
  const tenant = newTenant()
  const origin = await closing.app.listen({ port: 0, host: '127.0.0.1' })
  const client = new AbortController()
  const send = async () => await fetch(origin + onboard, {
    method: 'POST',
    headers: { ...as(tenant), 'content-type': 'application/json' },
    body: JSON.stringify(login(tenant)),
    signal: client.signal
  }).catch((err: Error) => err.name)
  const { answer } = await startWithMetaFault('access_token', { latency_ms: 1000 }, send)
  client.abort()
  t.equal(await answer, 'AbortError')
  await closing.app.close()
  t.match(
    await records(tenant),
    [{ status: 'in_progress', holder: null, held_until: null, access_token: /^v2\./ }],
    'another process can continue'
  )
  t.match(stepsOf(await record(tenant)), ['exchange done 1', ...Array(6).fill(/pending 0/)])
  t.equal((await resume(tenant)).is, '200')
  t.match((await configure(tenant, 'GET', undefined, '/full')).body, {
    access_token: service.lastToken(),
    onboarding_completed: true
  })
})
