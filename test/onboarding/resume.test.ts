import t from '../run/tap.js'
import { sql } from 'drizzle-orm'
import { registerRefused, temporarilyDown } from '../graph/errors.js'
import { connect, until } from '../helper.js'
import { app } from '../meta/wire.js'
import { recordExtension } from '../token-watch/extension-record.js'
import { onboardingService, PIN, stepIn, stepsOf } from './onboarding-service.js'

const service = await onboardingService(t)
const {
  meta, waba, post, resume, record, configure, login, issue, newTenant, newWaba, asked, row, records, instance,
  lastToken, databaseUrl
} = service

/** Returns the answer of a call, and the routes of its requests to Meta. */
async function withMetaCalls<T> (call: () => Promise<T>): Promise<[T, Array<string | null>]> {
  meta.requests.length = 0
  const answer = await call()
  return [answer, asked().map(({ route }) => route)]
}

/** The number in the state of the Graph stand-in. */
function phoneOf (id: unknown) {
  const phone = [...meta.state.wabas.values()].flatMap(({ phones }) => phones).find((phone) => phone.id === id)
  if (phone === undefined) throw new Error('no phone')
  return phone
}

await t.test('an onboarding whose last step failed checks the token again before it completes', async (t) => {
  await Promise.all((['resume', 'code'] as const).flatMap((by) => [true, false].map(async (isRevoked) => {
    const tenant = newTenant()
    const account = newWaba(1)
    const body = { code: issue({ waba_ids: [account.id] }), waba_id: account.id, pin: PIN }
    const isOf = (path: string) => path.includes(`/${account.phones[0]?.id}/register`)
    meta.fail('register', { latency_ms: 1000 })
    const first = post(tenant, body)
    await until(() => asked('register').some(({ path }) => isOf(path)))
    const lock = await connect(t, databaseUrl)
    await lock.query('begin')
    await lock.query('select from tenant_configs where tenant_id = $1 for update', [tenant])
    t.equal((await first).is, '503 DATABASE_UNAVAILABLE')
    await lock.query('rollback')
    const granted = [...meta.state.tokens]
      .flatMap(([text, token]) => token.waba_ids?.includes(account.id) ? [{ text, token }] : [])
    t.equal(granted.length, 1)
    const inspections = () => asked('debug_token')
      .filter(({ query }) => query['input_token'] === granted[0]?.text).length
    t.equal(inspections(), 1)
    if (isRevoked && granted[0] !== undefined) granted[0].token.revoked = 460
    const answer = by === 'resume' ? await resume(tenant) : await post(tenant, body)
    t.equal(answer.is, isRevoked ? '400 META_TOKEN_INVALID' : by === 'resume' ? '200' : '201', `by ${by}`)
    t.equal(inspections(), 2)
    t.match(await row(tenant), { phone_number_id: account.phones[0]?.id, onboarding_completed: !isRevoked })
    t.match(await records(tenant), [{ status: isRevoked ? 'failed' : 'completed', access_token: null }])
    if (isRevoked) {
      t.match(stepIn(await record(tenant), 'done'), {
        status: 'failed',
        error: { code: 'META_TOKEN_INVALID', meta_code: 190, meta_subcode: 460 }
      })
    }
  })))
})

await t.test('a replay of a post whose register step failed transiently does not register again', async (t) => {
  const tenant = newTenant()
  const body = login(tenant, { pin: PIN })
  meta.fail('register', { reply: registerRefused(133004) })
  const first = await post(tenant, body)
  t.equal(first.is, '503 META_UNAVAILABLE')
  const [again, calls] = await withMetaCalls(async () => await post(tenant, body))
  t.same([again.is, again.body['detail'], calls], [first.is, first.body['detail'], []])
  const [resumed, later] = await withMetaCalls(async () => await resume(tenant, { pin: PIN }))
  t.same([resumed.is, later], ['200', ['register', 'debug_token']])
})

await t.test('a resumed onboarding completes with the extended token and its expiry', async (t) => {
  const { app: { vault, database, ...at } } = service
  const tenant = newTenant()
  meta.fail('register', { reply: registerRefused(133005) })
  t.equal((await post(tenant, login(tenant, { pin: PIN }))).is, '409 META_REGISTER_REFUSED')
  const [{ claim = '' } = {}] = await database.run(
    sql<{ claim: string }>`select next_check_at as claim from token_watch where tenant_id = ${tenant}`
  )
  const stored = String((await row(tenant))?.['access_token'])
  const extended = meta.state.issueToken({ app_id: app.id })
  const expiry = '2099-01-01T00:00:00.000000Z'
  const sealed = vault.seal(extended, tenant, 'access_token')
  await recordExtension(service.app, tenant, { stored, claim }, { sealed, expires_at: expiry })
  t.equal((await resume(tenant, { pin: PIN })).is, '200')
  t.match((await configure(tenant, 'GET', undefined, '/full')).body, {
    access_token: extended,
    token_expires_at: expiry,
    onboarding_completed: true
  })
  t.match(await at.tokenWatch.healthOf(tenant), { token_status: 'ok', token_expires_at: expiry })
  t.equal(asked('debug_token').at(-1)?.query['input_token'], extended)
})

await t.test('a resumption of a completed onboarding with a PIN registers the number once', async (t) => {
  const tenant = newTenant()
  t.equal((await post(tenant, login(tenant))).is, '201')
  const [unchanged, noCalls] = await withMetaCalls(async () => await resume(tenant))
  t.same([unchanged.is, noCalls], ['200', []], 'the onboarding lacks nothing that was requested')
  const { body: { id } } = await record(tenant)
  const [registered, calls] = await withMetaCalls(async () => await resume(tenant, { pin: PIN }))
  t.same([registered.is, calls], ['200', ['register', 'debug_token']])
  const phoneId = (await row(tenant))?.['phone_number_id']
  t.match(phoneOf(phoneId), { registered: true, pin: PIN })
  t.match(await record(tenant), { body: { id, status: 'completed' } })
  t.match(stepIn(
    await record(tenant),
    'register'
  ), { status: 'done', attempts: 2, evidence: { phone_number_id: phoneId } })
  t.match(await row(tenant), { onboarding_completed: true, is_active: true })
  for (const body of [{ pin: PIN }, {}, { phone_number_id: String(phoneId), pin: PIN }]) {
    const [again, calls] = await withMetaCalls(async () => await resume(tenant, body))
    t.same([again.is, calls], ['200', []])
  }
  t.match(await records(tenant), [{ access_token: null, holder: null }])
})

await t.test('concurrent resumptions of a completed onboarding register the number once', async (t) => {
  const tenant = newTenant()
  await post(tenant, login(tenant))
  const other = await instance()
  meta.requests.length = 0
  meta.fail('register', { latency_ms: 300 })
  const answers = await Promise.all(
    Array.from({ length: 20 }, async (_, i) => await (i % 2 ? service : other).resume(tenant, { pin: PIN }))
  )
  t.same([...new Set(answers.map(({ is }) => is))], ['200'])
  t.equal(asked('register').length, 1)
})

await t.test('a completed onboarding moves to another number of the accounts of its token', async (t) => {
  const [one, two] = [newWaba(1), newWaba(0)]
  const tenant = newTenant()
  t.equal((await post(tenant, { code: issue({ waba_ids: [one.id, two.id] }) })).is, '201')
  t.match(await row(tenant), { waba_id: one.id, phone_number_id: one.phones[0]?.id })
  two.phones.push(...newWaba(1).phones)
  one.phones.push(...newWaba(1).phones)
  t.equal((await resume(tenant, { phone_number_id: 'none of them' })).is, '403 META_PHONE_NOT_IN_WABA')
  for (const [account, phone] of [[one, one.phones[1]], [two, two.phones[0]]] as const) {
    t.equal((await resume(tenant, { phone_number_id: String(phone?.id) })).is, '200')
    t.match((await configure(tenant, 'GET', undefined, '/full')).body, {
      waba_id: account.id,
      phone_number_id: phone?.id,
      access_token: lastToken(),
      onboarding_completed: true
    })
    t.same(account.subscriptions.get(app.id), {})
  }
  const claimed = newTenant()
  t.equal((await post(claimed, { code: issue(), waba_id: one.id, phone_number_id: one.phones[0]?.id })).is, '201')
  t.equal(
    (await resume(claimed, { phone_number_id: String(waba.phones.at(-1)?.id) })).is,
    '403 META_PHONE_NOT_IN_WABA',
    'a claimed account is not replaced'
  )
})

await t.test('a completed onboarding without a number stores one that is added at Meta later', async (t) => {
  for (const body of [{}, { pin: PIN }]) {
    const account = newWaba(0)
    const tenant = newTenant()
    t.equal((await post(tenant, { code: issue(), waba_id: account.id })).is, '201')
    t.equal((await resume(tenant)).is, '200', 'the account still has no number')
    t.match(await row(tenant), { phone_number_id: null, onboarding_completed: true })
    account.phones.push(...newWaba(1).phones)
    t.equal((await resume(tenant, body)).is, '200')
    t.match(await row(tenant), { phone_number_id: account.phones[0]?.id, onboarding_completed: true })
    t.equal(account.phones[0]?.registered, 'pin' in body)
  }
})

await t.test('a completed onboarding whose configuration changed is not reopened', async (t) => {
  for (const [name, change, path] of [
    ['token', { access_token: 'another' }, ''], ['account', { waba_id: 'another' }, ''],
    ['number', { phone_number_id: null }, ''], ['turned off', undefined, '/deactivate']
  ] as const) {
    const tenant = newTenant()
    await post(tenant, login(tenant))
    await configure(tenant, change === undefined ? 'POST' : 'PUT', change, path)
    const left = await row(tenant)
    for (const body of [{ pin: PIN }, { phone_number_id: '250' }]) {
      const [{ is }, calls] = await withMetaCalls(async () => await resume(tenant, body))
      t.same([is, calls], ['409 ONBOARDING_SUPERSEDED', []], name)
    }
    t.same(await row(tenant), left)
    t.match(await records(tenant), [{ status: 'completed', access_token: null }])
  }
})

await t.test('a failed registration leaves the configuration of a completed onboarding unchanged', async (t) => {
  const tenant = newTenant()
  await post(tenant, login(tenant))
  const left = await configure(tenant, 'GET', undefined, '/full')
  meta.fail('register', { reply: temporarilyDown() })
  t.equal((await resume(tenant, { pin: PIN })).is, '503 META_UNAVAILABLE')
  t.same((await configure(tenant, 'GET', undefined, '/full')).body, left.body)
  t.match(stepsOf(await record(tenant)), [
    /exchange done/, /inspect done/, /assets done/, /store done/, /subscribe done/,
    'register failed 2 META_UNAVAILABLE', 'done pending 1'
  ])
  t.equal((await resume(tenant, { pin: PIN })).is, '200')
})
