import t from '../../run/tap.js'
import { BLOCK_MS, clock } from '../../fixtures/clock.js'
import { onboardingService, PIN, stepsOf } from '../../onboarding/onboarding-service.js'
import { GraphError, throttled } from '../../graph/errors.js'
import { usageHeaders } from '../../graph/usage.js'
import { connect, untilWaiting } from '../../helper.js'
import { app } from '../wire.js'
import { config } from '../../routes/client.js'

const service = await onboardingService(t, {
  OAUTH_STATE: 'required',
  OAUTH_REDIRECT_URIS: 'https://shop.example/done'
})
const { meta, issue, as, call, post, resume, record, records, start, login, newTenant, configure, asked } = service
// A block would last beyond the test that caused it.
const { advance } = clock(t)
const verifyUrl = `${config}/verify`
const redirect_uri = 'https://shop.example/done'

/** A tenant with an account of its own, whose credentials Meta confirms. */
async function connected () {
  const tenant = newTenant()
  const own = meta.state.addWaba({ app_ids: [app.id] })
  const access_token = meta.state.issueToken({ app_id: app.id })
  await configure(tenant, 'POST', { waba_id: own.id, phone_number_id: String(own.phones[0]?.id), access_token })
  return tenant
}
const verify = async (tenant: string, body?: object) => await call(as(tenant), 'POST', verifyUrl, body)
const stateOf = async (tenant: string) => String((await start(tenant, { redirect_uri })).body['state'])

await t.test('while Meta blocks the app, no dry run, verification or unsubscription makes a call', async (t) => {
  const tenants = await Promise.all(Array.from({ length: 20 }, connected))
  const [one = '', other = ''] = tenants
  meta.fail('debug_token', {
    reply: throttled(4),
    headers: { 'x-app-usage': '{"call_count":100,"estimated_time_to_regain_access":7}' }
  })
  t.match(await verify(one, { waba_id: '1' }), { is: '503 META_RATE_LIMITED', headers: { 'retry-after': '420' } })
  meta.requests.length = 0
  advance(60_000)

  const all: Array<[object | undefined, number]> = [[{ waba_id: '1' }, 100], [undefined, 10]]
  for (const [body, length] of all) {
    const answers = await Promise.all(
      Array.from({ length }, async (_, i) => await verify(String(tenants[i % 20]), body))
    )
    for (const { is, headers } of answers) {
      t.equal(is, '503 META_RATE_LIMITED')
      t.ok(
        Number(headers['retry-after']) > 350 && Number(headers['retry-after']) <= 360,
        String(headers['retry-after'])
      )
    }
  }
  const left = await call(as(other), 'DELETE', `${config}?unsubscribe=true`)
  t.match(left, { is: '503 META_RATE_LIMITED' })
  t.equal((await configure(other, 'GET')).is, '200', 'nothing was deleted')
  t.same(asked(), [])

  advance(6 * 60_000 + 1000)
  t.equal((await verify(one)).is, '200')
})

await t.test('a code is not sent while Meta blocks the app: neither the code nor its state is used', async (t) => {
  const one = await connected()
  const tenant = newTenant()
  const state = await stateOf(tenant)
  const body = login(tenant, { state, redirect_uri, code: issue({ redirect_uri }) })
  meta.fail('debug_token', { reply: throttled(4) })
  await verify(one)
  meta.requests.length = 0
  for (let times = 0; times < 2; times++) {
    t.match(await post(tenant, body), {
      is: '503 META_RATE_LIMITED',
      headers: { 'retry-after': /^(300|29\d)$/ }
    })
  }
  t.same([asked(), await records(tenant)], [[], []])
  t.equal((await resume(tenant)).is, '404 ONBOARDING_NOT_FOUND')

  advance(BLOCK_MS)
  // A code of the stand-in expires after 30 seconds, so the customer logs in again with the first state.
  t.equal((await post(tenant, { ...body, code: issue({ redirect_uri }) })).is, '201')
})

await t.test('a code that a block stopped before the exchange is sent when the request is repeated', async (t) => {
  const tenant = newTenant()
  const body = login(tenant, { state: await stateOf(tenant), redirect_uri, code: issue({ redirect_uri, age: -1000 }) })
  // The block begins between the insert of the record and the exchange.
  await service.sql(
    'create function wait() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock(1); return ' +
      'new; end $$'
  )
  await service.sql('create trigger wait before update on onboardings for each row execute function wait()')
  const gate = await connect(t, service.databaseUrl)
  await gate.query('select pg_advisory_lock(1)')
  const posted = post(tenant, body)
  await untilWaiting(service.databaseUrl, 1)
  meta.fail('debug_token', { reply: throttled(4) })
  await t.rejects(service.app.metaGraph.inspectToken(app, 'EAA'), { code: 'META_RATE_LIMITED' })
  await gate.query('select pg_advisory_unlock(1)')
  t.match(await posted, { is: '503 META_RATE_LIMITED' })
  t.same(asked('access_token'), [])
  t.match((await record(tenant)).body, { status: 'in_progress' })
  t.same(stepsOf(await record(tenant))[0], 'exchange failed 1 META_RATE_LIMITED')
  t.match(await post(tenant, body), { is: '503 META_RATE_LIMITED' })
  t.match(await resume(tenant), { is: '503 META_RATE_LIMITED' })
  t.same(asked('access_token'), [])

  advance(BLOCK_MS)
  t.equal((await post(tenant, body)).is, '201')
  t.equal(asked('access_token').length, 1)
})

await t.test('an onboarding that a block stopped after the exchange is resumed', async (t) => {
  const tenant = newTenant()
  const body = login(tenant, { state: await stateOf(tenant), redirect_uri, code: issue({ redirect_uri }), pin: PIN })
  meta.fail('debug_token', { headers: { 'x-app-usage': '{"call_count":100}' } })
  t.match(await post(tenant, body), { is: '503 META_RATE_LIMITED' })
  t.same(stepsOf(await record(tenant)).slice(0, 3), [
    'exchange done 1', 'inspect done 1', 'assets failed 1 META_RATE_LIMITED'
  ])
  meta.requests.length = 0
  t.match(await resume(tenant, { pin: PIN }), { is: '503 META_RATE_LIMITED' })
  t.same(asked(), [])
  advance(BLOCK_MS)
  t.equal((await resume(tenant, { pin: PIN })).is, '200')
})

await t.test('the limit of one account does not block another tenant of the app', async (t) => {
  const limits = [
    new GraphError(400, 17, '(#17) User request limit reached'), new GraphError(400, 32, '(#32)'),
    new GraphError(400, 613, '(#613)'), throttled(80007), throttled(80008)
  ]
  for (const reply of limits) {
    const [one, other] = [await connected(), await connected()]
    meta.fail('phone_numbers', { reply })
    t.match(await verify(one), { is: '503 META_RATE_LIMITED', headers: { 'retry-after': '300' } }, String(reply.code))
    meta.requests.length = 0
    t.match(await verify(one), { is: '503 META_RATE_LIMITED' })
    t.notOk(asked('phone_numbers').length, 'no call for that account')
    t.match(await verify(other), { is: '200' })
    advance(BLOCK_MS)
    t.match(await verify(one), { is: '200' })
  }
})

await t.test('a token limit, met at the account of another tenant, does not block that account', async (t) => {
  for (const code of [17, 32, 613]) {
    const [squatter, owner] = [await connected(), await connected()]
    const { waba_id, phone_number_id } = (await configure(owner, 'GET')).body
    await configure(squatter, 'PUT', { waba_id, phone_number_id })
    meta.fail('phone_numbers', { reply: new GraphError(400, code, 'limit') })
    t.match(await verify(squatter), { is: '503 META_RATE_LIMITED' })
    t.equal((await verify(owner)).is, '200', String(code))
    advance(BLOCK_MS)
  }
})

await t.test('the limit of a foreign token, met while unsubscribing, blocks no other tenant', async (t) => {
  const [one, other] = [await connected(), await connected()]
  const { body: { waba_id } } = await configure(other, 'GET')
  for (const code of [4, 17, 80007] as const) {
    meta.fail('unsubscribe', {
      reply: new GraphError(429, code, 'limit'),
      headers: {
        'x-app-usage': '{"call_count":100}',
        ...usageHeaders({ business: 100, waba_id: String(waba_id), regain_minutes: 9 })
      }
    })
    await configure(one, 'PUT', { access_token: `EAAofAnotherApp${code}` })
    t.match(await call(as(one), 'DELETE', `${config}?unsubscribe=true`), {
      is: '503 META_RATE_LIMITED',
      headers: { 'retry-after': '540' }
    })
    t.equal((await verify(other)).is, '200')
  }
})
