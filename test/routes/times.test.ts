import type { Test } from 'tap'
import t from '../run/tap.js'
import { onboardingService, PIN } from '../onboarding/onboarding-service.js'
import { until } from '../helper.js'
import { receiver } from '../events/event-receiver.js'

const { env, received } = await receiver(t)
const { app, admin, call, configure, login, newTenant, post, record, row, sql, start } = await onboardingService(t, env)

/** Asserts that the body contains `count` times, each with six digits and `Z`. */
function sixDigits (t: Test, what: string, body: unknown, count: number): void {
  const times = (JSON.stringify(body).match(/"\d{4}-\d\d-\d\d[^"]*"/g) ?? []).map((time) => time.slice(1, -1))
  t.equal(times.length, count, `${what}: ${times.join(', ')}`)
  for (const time of times) t.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/, what)
}

await t.test('every answer shows times with six digits and Z, for any stored precision', async (t) => {
  const tenant = newTenant()
  sixDigits(t, 'start', (await start(tenant, { redirect_uri: 'https://tenant.example/done' })).body, 1)
  sixDigits(t, 'onboarding', (await post(tenant, login(tenant, { pin: PIN }))).body, 5)
  sixDigits(t, 'record', (await record(tenant)).body, 11)
  sixDigits(t, 'verification', (await configure(tenant, 'POST', undefined, '/verify')).body, 5)

  for (const digits of ['', '.5', '.123', '.123456']) {
    const time = `2100-01-02T03:04:05${digits}Z`
    sixDigits(t, 'change', (await configure(tenant, 'PUT', { token_expires_at: time })).body, 5)
    await sql(
      'update tenant_configs set created_at = $1, onboarded_at = $1, last_verified_at = $1, token_expires_at = $1',
      [time]
    )
    await sql('update token_watch set checked_at = $1, next_check_at = $1', [time])
    await sql('update onboardings set created_at = $1, updated_at = $1', [time])
    sixDigits(t, 'masked', (await configure(tenant, 'GET')).body, 5)
    sixDigits(t, 'full', (await configure(tenant, 'GET', undefined, '/full')).body, 5)
    sixDigits(t, 'effective', (await configure(tenant, 'GET', undefined, '/effective')).body, 2)
    sixDigits(t, 'health', (await configure(tenant, 'GET', undefined, '/health')).body, 3)
    sixDigits(t, 'list', (await call(admin, 'GET', '/api/v1/tenant/admin/configs/all')).body, 5)
    sixDigits(t, 'record', (await record(tenant)).body, 11)
  }
  t.equal(
    (await app.configLoader.getWhatsappConfig(tenant)).token_expires_at,
    '2100-01-02T03:04:05.123456Z',
    'the loader returns six digits too'
  )
})

await t.test('a record of a former version shows its times with six digits', async (t) => {
  const tenant = newTenant()
  await post(tenant, login(tenant))
  await sql(
    'update onboardings set steps = regexp_replace(steps::text, \'(\\.\\d{3})\\d{3}Z"\', \'\\1Z"\', \'g\')::jsonb ' +
      'where tenant_id = $1',
    [tenant]
  )
  const { body } = await record(tenant)
  sixDigits(t, 'record', body, 11)
  t.match(JSON.stringify(body), /\.\d{3}000Z","evidence":\{"app_id":"[^"]+","expires_at":"[^"]+\.\d{3}000Z"/)
})

await t.test('an event shows its time with six digits', async (t) => {
  const tenant = newTenant()
  await post(tenant, login(tenant))
  await app.tokenWatch.record(
    tenant,
    String((await row(tenant))?.['access_token']),
    { valid: false, reason: 'meta_190_460' }
  )
  const revoked = () => received.map(({ event }) => event).filter(({ type }) => type === 'token.revoked')
  await until(() => revoked().length > 0)
  sixDigits(t, 'event', revoked(), 1)
})
