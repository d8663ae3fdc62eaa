import t from '../../run/tap.js'
import { stepNames } from '../../../src/schemas/statuses.js'
import { temporarilyDown, tokenRefused } from '../../graph/errors.js'
import { app, secrets } from '../../meta/wire.js'
import { onboardingService, PIN, stepIn } from '../onboarding-service.js'

const service = await onboardingService(t)
const {
  meta, waba, post, resume, record, login, issue, newTenant, row, records, freePhoneNumbers, sql, call, lastToken, log
} = service

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
  t.same(steps.map(({ name }) => name), stepNames)
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
  t.notMatch(JSON.stringify(answer.body), /v2\.t1\.|code_hash|holder|access_token/)
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
  t.equal((await record(tenant, undefined, 'another user')).body['id'], id, 'another user of the tenant')
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
  const failedOnboarding = async () => {
    await freePhoneNumbers()
    const tenant = newTenant()
    meta.fail('subscribe', { reply: temporarilyDown() })
    await post(tenant, login(tenant))
    return tenant
  }
  for (const [name, change, expected] of [
    ['no token', 'access_token = null', '500 INTERNAL'],
    ['no account', 'waba_id = null', '500 INTERNAL'],
    [
      'all steps done, but not completed',
      "steps = (select jsonb_agg(step || '{\"status\": \"done\"}') from jsonb_array_elements(steps) step)",
      '500 INTERNAL'
    ],
    ['a step is missing', 'steps = steps - 4', '500 INTERNAL'],
    [
      'an unknown error code',
      "steps = jsonb_set(steps, '{0}', '{\"name\": \"exchange\", \"status\": \"failed\", \"attempts\": 1, \"error\": " +
        "{\"code\": \"OF_THE_FUTURE\"}}')",
      '503 META_UNAVAILABLE'
    ]
  ] as const) {
    const tenant = await failedOnboarding()
    const before = await row(tenant)
    await sql(`update onboardings set ${change} where tenant_id = $1`, [tenant])
    t.equal((await resume(tenant)).is, expected, name)
    t.same(await row(tenant), before)
  }
})
