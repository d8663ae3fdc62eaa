import t from '../../run/tap.js'
import { startWithMetaFault } from '../../fixtures/fault-injection.js'
import { connect, query, untilWaiting } from '../../helper.js'
import { offboardingService, offboardUrl } from '../../offboarding/offboarding-service.js'
import { onboardingService, PIN, stepsOf } from '../../onboarding/onboarding-service.js'
import { S_PER_DAY, watch } from '../../token-watch/watch.js'
import { verificationService, verifyUrl } from '../../verification/verification-service.js'
import { rotate, tokensOf } from './rotated.js'

/** Long enough for a rotation, on a busy machine too. */
const LATENCY_MS = 1000

/** Seals all values of tenants anew: in `v1`, which needs no second key. Returns how many. */
async function sealAnew ({ app, databaseUrl }: { app: { env: { ENCRYPTION_KEYS: string } }, databaseUrl: string }) {
  // The running service has the audit key in memory.
  await query(databaseUrl, 'delete from service_secrets')
  const { replaced } = await rotate(databaseUrl, { keyRing: app.env.ENCRYPTION_KEYS, format: 'v1' })
  return replaced
}

await t.test('a rotation during a token check loses neither the finding nor the extended token', async (t) => {
  const { meta, issue, startService } = await watch(t)
  const service = await startService(t)
  const { store, poll, healthOf, sql, configLoader, tenantConfigs } = service
  await store('acme', issue({ expires_in: 10 * S_PER_DAY }), { waba_id: 'waba' })
  await store('left', issue({ expires_in: 0 }))
  const { access_token: sealed } = await store('waiting', issue({ expires_in: 10 * S_PER_DAY }))
  await sql(
    `insert into onboardings (tenant_id, code_hash, status, steps, access_token)
     values ('waiting', 'hash', 'in_progress', '[]', $1)`,
    [sealed]
  )
  const { answer } = await startWithMetaFault(meta, 'debug_token', { latency_ms: LATENCY_MS, times: 3 }, poll)
  t.equal(await sealAnew(service), 4)
  await answer
  for (const tenant of ['acme', 'left', 'waiting']) t.match(await healthOf(tenant), { token_status: 'ok' }, tenant)
  t.equal(meta.requests.filter(({ route }) => route === 'extend').length, 2)
  for (const tenant of ['acme', 'waiting']) {
    const token = (await configLoader.forTenant(tenant)).getAccessToken()
    t.equal(token, [...meta.state.tokens.keys()].find((known) => known === token), tenant)
    t.ok(Date.parse(String((await tenantConfigs.find(tenant))?.token_expires_at)) > Date.now() + 20 * S_PER_DAY * 1000)
  }
  t.same(
    await tokensOf(service.databaseUrl, 'waiting'),
    [[(await tenantConfigs.find('waiting'))?.access_token, null]],
    'the onboarding has the extended token too'
  )
})

await t.test('a rotation during a verification leaves it verified', async (t) => {
  const service = await verificationService(t)
  const { meta, tenant, call, as, app } = service
  const { id } = await tenant()
  const { answer } = await startWithMetaFault(meta, 'debug_token', { latency_ms: LATENCY_MS },
    async () => await call(as(id), 'POST', verifyUrl))
  t.equal(await sealAnew(service), 1)
  t.match(await answer, { is: '200', body: { ok: true } })
  t.match(await app.tokenWatch.healthOf(id), { token_status: 'ok' })
  t.match(await app.tenantConfigs.find(id), { last_verified_at: String, access_token: /^v1\./ })
})

await t.test('a rotation during an offboarding lets it complete', async (t) => {
  const service = await offboardingService(t)
  const { meta, tenant, call, app } = service
  const { id, who } = await tenant()
  const { answer } = await startWithMetaFault(meta, 'unsubscribe', { latency_ms: LATENCY_MS },
    async () => await call(who, 'DELETE', offboardUrl))
  t.equal(await sealAnew(service), 1)
  t.match(await answer, { is: '204' })
  t.equal(await app.tenantConfigs.find(id), null)
})

await t.test('a rotation leaves out an onboarding that runs, and then seals its values', async (t) => {
  const service = await onboardingService(t)
  const { login, newTenant, post, row, startWithMetaFault } = service
  const tenant = newTenant()
  t.equal((await post(tenant, login(tenant))).is, '201')
  for (const route of ['debug_token', 'phone_numbers', 'subscribe'] as const) {
    const again = async () => await post(tenant, login(tenant))
    const { answer } = await startWithMetaFault(route, { latency_ms: LATENCY_MS }, again)
    t.equal(await sealAnew(service), 0, route)
    t.equal((await answer).is, '200', route)
    t.match(await row(tenant), { onboarding_completed: true, access_token: /^v2\./ }, route)
  }
  t.equal(await sealAnew(service), 8, 'the row, and the 7 versions that the onboardings made')
})

await t.test('an onboarding that waits for its tenant completes after a rotation', async (t) => {
  const service = await onboardingService(t)
  const { login, newTenant, post, resume, record, row, meta } = service
  const tenant = newTenant()
  t.equal((await post(tenant, login(tenant))).is, '201')
  meta.fail('register', { reply: { status: 400, body: '{"error":{"code":133005,"message":"x"}}' } })
  t.match((await post(tenant, login(tenant, { pin: PIN }))).is, '409 META_REGISTER_REFUSED')
  const before = await row(tenant)
  t.equal(await sealAnew(service), 4, 'the row, 2 versions and the onboarding')
  const sealed = (await row(tenant))?.['access_token']
  t.not(sealed, before?.['access_token'])
  t.same((await tokensOf(service.databaseUrl, tenant)).at(-1), [sealed, null])
  t.equal((await resume(tenant, { pin: PIN })).is, '200')
  t.match(stepsOf(await record(tenant)).at(-1), /^done done/)
})

await t.test('a login that begins during a rotation remembers the token as it is stored afterwards', async (t) => {
  const service = await onboardingService(t)
  const { login, newTenant, post, sql, databaseUrl, startWithMetaFault, row } = service
  const tenant = newTenant()
  t.equal((await post(tenant, login(tenant))).is, '201')
  const rotation = await connect(t, databaseUrl)
  await rotation.query('begin')
  await rotation.query('select from tenant_configs where tenant_id = $1 for no key update', [tenant])
  const { answer } = await startWithMetaFault('access_token', { latency_ms: LATENCY_MS }, async () => {
    const answer = post(tenant, login(tenant))
    await untilWaiting(databaseUrl, 1)
    await rotation.query("update tenant_configs set access_token = 'anew' where tenant_id = $1", [tenant])
    await rotation.query('commit')
    return await answer
  })
  t.match(await sql("select former ->> 'access_token' as former from onboardings where status = 'in_progress'"), [
    { former: 'anew' }
  ])
  t.equal((await answer).is, '200')
  t.match(await row(tenant), { onboarding_completed: true })
})

await t.test('an onboarding that is reopened during a rotation gets the token as it is stored then', async (t) => {
  const service = await onboardingService(t)
  const { login, newTenant, post, resume, databaseUrl, row, app } = service
  const tenant = newTenant()
  t.equal((await post(tenant, login(tenant))).is, '201')
  const stored = await row(tenant)
  const anew = app.vault.seal(
    app.vault.open(String(stored?.['access_token']), tenant, 'access_token'), tenant, 'access_token'
  )
  const rotation = await connect(t, databaseUrl)
  await rotation.query("begin; set local app.resealing = 'on'")
  await rotation.query('update tenant_configs set access_token = $2 where tenant_id = $1', [tenant, anew])
  const answer = resume(tenant, { pin: PIN })
  await untilWaiting(databaseUrl, 1)
  await rotation.query('commit')
  t.equal((await answer).is, '200')
  t.match(await row(tenant), { access_token: anew, onboarding_completed: true })
})
