import t from '../../run/tap.js'
import { onboardingService, PIN, stepIn, stepsOf } from '../onboarding-service.js'
import { temporarilyDown, tokenRefused } from '../../graph/errors.js'
import { faults } from '../../graph/faults.js'
import { until } from '../../helper.js'
import { app, secrets } from '../../meta/wire.js'

const service = await onboardingService(t)
const {
  meta, waba, post, resume, record, login, issue, newTenant, asked, row, records, crash, vacate, sql, instance, call,
  lastToken, log
} = service
const names = ['exchange', 'inspect', 'assets', 'store', 'subscribe', 'register', 'done']

await t.test('the record of an onboarding contains its steps and their evidence, but no secret', async (t) => {
  const tenant = newTenant()
  const body = login(tenant, { pin: PIN })
  const began = Date.now()
  t.equal((await post(tenant, body)).is, '201')
  const answer = await record(tenant)
  t.equal(answer.is, '200')
  const { id, status, steps, created_at: created, updated_at: updated, ...rest } = answer.body
  t.same([status, rest], ['completed', {}])
  t.match(id, /^[\da-f-]{36}$/)
  for (const time of [created, updated]) t.ok(Math.abs(Date.parse(String(time)) - began) < 60_000)
  if (!Array.isArray(steps)) throw new Error('no steps')
  t.same(steps.map(({ name }) => name), names)
  for (const step of steps) {
    t.same(Object.keys(step).sort(), ['at', 'attempts', 'error', 'evidence', 'name', 'status'])
    t.match(step, { status: 'done', attempts: 1, error: null })
    t.ok(Date.parse(step.at) >= began - 1000 && Date.parse(step.at) <= Date.now())
  }
  const phone = body['phone_number_id']
  t.match(steps.map(({ evidence }) => evidence), [
    { app_id: app.id, expires_at: String },
    { app_id: app.id, type: 'SYSTEM_USER', scopes: Array, missing_scopes: [], waba_ids: [], expires_at: String },
    { waba_id: waba.id, phone_number_id: phone, is_discovered: false, has_phone_number: true },
    { is_new: true },
    { waba_id: waba.id, callback: 'none' },
    { phone_number_id: phone },
    {}
  ])
  const stored = JSON.stringify(await records(tenant))
  for (const secret of [lastToken(), body['code'], PIN, ...secrets]) {
    for (const text of [JSON.stringify(answer.body), stored, log()]) t.notMatch(text, String(secret))
  }
  t.notMatch(JSON.stringify(answer.body), /v1\.t1\.|code_hash|holder|access_token/)
})

await t.test('a record is readable by all users of its tenant and by no other tenant', async (t) => {
  const [tenant, other] = [newTenant(), newTenant()]
  await post(tenant, login(tenant))
  t.equal((await record(other)).is, '404 ONBOARDING_NOT_FOUND')
  t.equal((await resume(other)).is, '404 ONBOARDING_NOT_FOUND')
  const { body: { id } } = await record(tenant)
  await post(other, login(other))
  t.not((await record(other)).body['id'], id)
  t.equal((await record(tenant)).body['id'], id)
  t.equal((await record(tenant, undefined, 'another user')).body['id'], id, 'it is the tenant\'s')
  for (const url of ['', '/start', '/resume']) {
    t.equal(
      (await call(service.admin, url === '' ? 'GET' : 'POST', `/api/v1/tenant/onboard/whatsapp-client${url}`)).is,
      '403 TENANT_CLAIM_INVALID'
    )
    t.equal(
      (await call({}, url === '' ? 'GET' : 'POST', `/api/v1/tenant/onboard/whatsapp-client${url}`)).is,
      '401 UNAUTHENTICATED'
    )
  }
})

await t.test('the record of a refusal contains the codes of Meta and the advice', async (t) => {
  const tenant = newTenant()
  meta.fail('phone_numbers', { reply: tokenRefused(460, 401) })
  const answer = await post(tenant, login(tenant))
  t.match(answer, { is: '400 META_TOKEN_INVALID', body: { detail: /changed the password/ } })
  const shown = await record(tenant)
  t.equal(shown.body['status'], 'failed')
  t.match(stepIn(shown, 'assets'), {
    status: 'failed',
    attempts: 1,
    evidence: null,
    error: {
      code: 'META_TOKEN_INVALID',
      meta_code: 190,
      meta_subcode: 460,
      fbtrace_id: /^A/,
      advice: answer.body['detail']
    }
  })
  const used = issue()
  await post(tenant, login(tenant, { code: used }))
  await sql('delete from onboardings')
  await post(tenant, login(tenant, { code: used }))
  t.match(stepIn(
    await record(tenant),
    'exchange'
  ), { status: 'failed', error: { code: 'META_CODE_USED', meta_code: 100, meta_subcode: 36009 } })
})

await t.test('an onboarding that crashed in any step is resumed at that step', async (t) => {
  for (const hangs of ['debug_token', 'phone_numbers', 'subscribe', 'register'] as const) {
    await vacate()
    const tenant = newTenant()
    const body = login(tenant, { pin: PIN })
    meta.requests.length = 0
    meta.fail(hangs, { latency_ms: 500 })
    const other = await instance()
    const lost = post(tenant, body)
    await until(() => asked(hangs).length === 1)
    await crash(tenant)
    const resumed = await other.resume(tenant, { pin: PIN })
    t.equal(resumed.is, '200', hangs)
    t.match(await lost, { body: resumed.body }, 'whoever was thought dead finds what the other one did')
    t.equal(asked('access_token').length, 1)
    t.match(await row(tenant), { onboarding_completed: true, waba_id: waba.id })
  }
})

await t.test('a resumption waits for the running execution and repeats no step', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  meta.fail('subscribe', { latency_ms: 500 })
  const first = post(tenant, body)
  await until(() => asked('subscribe').length === 1)
  const [resumed, replayed] = await Promise.all([resume(tenant), (await instance()).post(tenant, body)])
  t.same([resumed.is, replayed.is, (await first).is], ['200', '200', '201'])
  t.equal(asked('subscribe').length, 1)
  t.equal((await resume(tenant)).is, '200', 'nothing is left to do')
  t.match(stepsOf(await record(tenant)), names.map((name) => `${name} ${name === 'register' ? 'skipped' : 'done'} 1`))
})

await t.test('30 concurrent resumptions execute each step once', async (t) => {
  const tenant = newTenant()
  meta.fail('debug_token', faults.dropBefore)
  await post(tenant, login(tenant))
  meta.requests.length = 0
  meta.fail('debug_token', { latency_ms: 300 })
  const other = await instance()
  const answers = await Promise.all(
    Array.from({ length: 30 }, async (_, i) => await (i % 2 ? service : other).resume(tenant))
  )
  t.same([...new Set(answers.map(({ is }) => is))], ['200'])
  t.same(asked().map(({ route }) => route), [
    'debug_token',
    'phone_numbers',
    ...Array.from({ length: Math.max(0, asked('phone_numbers').length - 1) }, () => 'phone_numbers'),
    'subscribe'
  ])
  t.match(stepIn(await record(tenant), 'inspect'), { attempts: 2 })
})

await t.test('a long execution renews its lease, also after a failed renewal', async (t) => {
  const tenant = newTenant()
  meta.fail('subscribe', { latency_ms: 7000 })
  const answer = post(tenant, login(tenant))
  await until(() => asked('subscribe').length === 1)
  await sql('alter table onboardings rename to renamed')
  await until(() => log().includes('the hold on an onboarding was not renewed'))
  await sql('alter table renamed rename to onboardings')
  const held = async () => (await sql(
    'select held_until > now() as held from onboardings where tenant_id = $1',
    [tenant]
  ))[0]?.['held']
  const began = Date.now()
  await until(async () => await held() !== true || Date.now() > began + 4500)
  t.equal(await held(), true, 'renewed beyond the five seconds of a hold')
  t.equal((await answer).is, '201')
})

await t.test('an execution that lost its lease is superseded, and a resumption continues', async (t) => {
  const tenant = newTenant()
  meta.fail('subscribe', { latency_ms: 500 })
  const answer = post(tenant, login(tenant))
  await until(() => asked('subscribe').length === 1)
  await sql('update onboardings set holder = gen_random_uuid(), held_until = null where tenant_id = $1', [tenant])
  t.equal((await answer).is, '409 ONBOARDING_SUPERSEDED')
  t.equal((await resume(tenant)).is, '200', 'who asks again goes on')
})

await t.test('a record deleted during its execution ends the execution and all waits', async (t) => {
  const tenant = newTenant()
  const other = await instance()
  const body = login(tenant)
  meta.fail('debug_token', { latency_ms: 1000 })
  const first = post(tenant, body)
  await until(() => asked('debug_token').length === 1)
  let reads = 0
  other.app.pg['tenantConfig']?.pool.on('acquire', () => { reads++ })
  const waiting = other.post(tenant, body)
  // After the second acquire the other instance polls the record.
  await until(() => reads >= 2)
  for (let times = 0; times < 3; times++) t.equal((await other.record(tenant)).is, '200')
  await sql('delete from onboardings where tenant_id = $1', [tenant])
  t.equal((await first).is, '409 ONBOARDING_SUPERSEDED')
  t.equal((await waiting).is, '404 ONBOARDING_NOT_FOUND')
  t.equal(await row(tenant), undefined)
})

await t.test('a token that the keys cannot decrypt fails its step with SECRET_UNREADABLE', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  meta.fail('debug_token', { reply: temporarilyDown() })
  await post(tenant, body)
  await sql("update onboardings set access_token = 'garbage' where tenant_id = $1", [tenant])
  t.equal((await resume(tenant)).is, '500 SECRET_UNREADABLE')
  t.match(stepIn(await record(tenant), 'inspect'), { error: { code: 'SECRET_UNREADABLE' } })
})

await t.test('an inconsistent record is an internal error and does not change the row', async (t) => {
  const failing = async () => {
    await vacate()
    const tenant = newTenant()
    meta.fail('subscribe', { reply: temporarilyDown() })
    await post(tenant, login(tenant))
    return tenant
  }
  for (const [what, change, expected] of [
    ['no token', 'access_token = null', '500 INTERNAL'],
    ['no account', 'waba_id = null', '500 INTERNAL'],
    [
      'all done, but not ended',
      "steps = (select jsonb_agg(step || '{\"status\": \"done\"}') from jsonb_array_elements(steps) step)",
      '500 INTERNAL'
    ],
    ['a step too few', 'steps = steps - 4', '500 INTERNAL'],
    [
      'an error that is none of ours',
      "steps = jsonb_set(steps, '{0}', '{\"name\": \"exchange\", \"status\": \"failed\", \"attempts\": 1, \"error\": " +
        "{\"code\": \"OF_THE_FUTURE\"}}')",
      '503 META_UNAVAILABLE'
    ]
  ] as const) {
    const tenant = await failing()
    const before = await row(tenant)
    await sql(`update onboardings set ${change} where tenant_id = $1`, [tenant])
    t.equal((await resume(tenant)).is, expected, what)
    t.same(await row(tenant), before)
  }
})

await t.test('an onboarding completes although the state of its token cannot be recorded', async (t) => {
  const tenant = newTenant()
  meta.fail('subscribe', { latency_ms: 500 })
  const answer = post(tenant, login(tenant))
  await until(() => asked('subscribe').length === 1)
  await sql('alter table token_watch rename to renamed')
  t.equal((await answer).is, '201')
  await sql('alter table renamed rename to token_watch')
  t.match(log(), 'the state of a new token could not be noted')
  const noted = newTenant()
  t.equal((await post(noted, login(noted))).is, '201')
  t.match(
    await sql('select status from token_watch where tenant_id in ($1, $2) order by tenant_id', [tenant, noted].sort()),
    [{ status: /./ }, { status: /./ }]
  )
  t.match(await sql('select status from token_watch where tenant_id = $1', [noted]), [{ status: 'ok' }])
})

await t.test('a login that replaces a revoked token emits a recovered transition', async (t) => {
  const tenant = newTenant()
  await post(tenant, login(tenant))
  const heard: unknown[] = []
  const stop = service.app.onboarding.onTransition((transition) => { heard.push(transition) })
  const [{ access_token: sealed } = {}] = await sql(
    'select access_token from tenant_configs where tenant_id = $1',
    [tenant]
  )
  await service.app.tokenWatch.record(tenant, String(sealed), { valid: false, reason: 'meta_190_460' })
  t.equal((await post(tenant, login(tenant))).is, '200')
  t.match(heard, [{ tenant_id: tenant, type: 'token.revoked' }, { tenant_id: tenant, type: 'token.recovered' }])
  stop()
})
