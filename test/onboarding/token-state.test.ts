import t from '../run/tap.js'
import { onboardingService } from './onboarding-service.js'

const service = await onboardingService(t)
const { post, login, newTenant, sql, log, startWithMetaFault } = service

await t.test('an onboarding completes although the state of its token cannot be recorded', async (t) => {
  const tenant = newTenant()
  const { answer } = await startWithMetaFault(
    'subscribe',
    { latency_ms: 500 },
    async () => await post(tenant, login(tenant))
  )
  await sql("alter table token_watch add constraint none_ok check (status <> 'ok') not valid")
  t.equal((await answer).is, '201')
  await sql('alter table token_watch drop constraint none_ok')
  t.match(log(), 'the state of a new token could not be noted')
  const next = newTenant()
  t.equal((await post(next, login(next))).is, '201')
  t.match(
    await sql('select status from token_watch where tenant_id in ($1, $2) order by tenant_id', [tenant, next].sort()),
    [{ status: /./ }, { status: /./ }]
  )
  t.match(await sql('select status from token_watch where tenant_id = $1', [next]), [{ status: 'ok' }])
})

await t.test('a login that replaces a revoked token emits a recovered transition', async (t) => {
  const tenant = newTenant()
  await post(tenant, login(tenant))
  const transitions: unknown[] = []
  const stop = service.app.onboarding.onTransition((transition) => { transitions.push(transition) })
  const [{ access_token: sealed } = {}] = await sql(
    'select access_token from tenant_configs where tenant_id = $1',
    [tenant]
  )
  await service.app.tokenWatch.record(tenant, String(sealed), { valid: false, reason: 'meta_190_460' })
  t.equal((await post(tenant, login(tenant))).is, '200')
  t.match(transitions, [
    { tenant_id: tenant, type: 'token.revoked' },
    { tenant_id: tenant, type: 'onboarding.completed', from: 'in_progress', to: 'completed', reason: null },
    { tenant_id: tenant, type: 'token.recovered' }
  ])
  stop()
})
