import type { Test } from 'tap'
import t from '../run/tap.js'
import { verifyAuditLog } from '../../src/audit/inspection.js'
import { connect, type TestApp } from '../helper.js'
import { resumptionService } from '../account-updates/resumption-service.js'
import { retriesService } from '../onboarding/retries/retries-service.js'
import { watchIdentities } from '../token-watch/identity/identity-watch.js'
import { S_PER_DAY } from '../token-watch/watch.js'

/** The records of a tenant, in short; the chains of the database must verify. */
async function linesOf (t: Test, { app, databaseUrl }: Pick<TestApp, 'app' | 'databaseUrl'>, tenantId: string) {
  const reader = await connect(t, databaseUrl)
  const report = () => t.fail('a chain is broken')
  await verifyAuditLog(reader, app.vault, { tenantId: undefined, noted: [], report, progress: () => {} })
  const { records } = await app.audit.list({ tenant_id: tenantId, limit: 100 })
  return records.reverse().map(({ actor, role, action, outcome, fields, address, request_id: id }) =>
    [actor, role, action, outcome, fields.join(), address ?? id].map((part) => part ?? '-').join(' '))
}

await t.test('what the service does with a token by itself is recorded', async (t) => {
  const { account, issue, startService } = await watchIdentities(t)
  const service = await startService(t)
  const { post, store, poll, pollAll } = service
  const { ids, token } = account()
  await post('verified', { ...ids, access_token: token() })
  await store('extended', issue({ expires_in: 10 * S_PER_DAY, type: 'USER' }))
  await poll()
  await pollAll()
  t.strictSame((await linesOf(t, service, 'verified')).slice(1), ['- system config.verify ok  -'])
  t.strictSame(await linesOf(t, service, 'extended'), ['- system token.extend ok access_token,token_expires_at -'])
})

await t.test('a suspension and a resumption are recorded', async (t) => {
  const service = await resumptionService(t)
  const { id, waba } = await service.suspended()
  await service.deliver('ACCOUNT_RECONNECTED', waba.id)
  await service.until(id, ({ is_active: isActive }) => isActive === true)
  await service.deliver('ACCOUNT_VIOLATION', waba.id)
  t.strictSame((await linesOf(t, service, id)).slice(1), [
    '- system config.deactivate ok  -', '- system config.activate ok  -'
  ])
})

await t.test('an onboarding is recorded where it stores, also when no request waits for it', async (t) => {
  const service = await retriesService(t, { GRAPH_TIMEOUT_MS: 1500 })
  const { meta, post, ownLogin, makeDue, untilStatus, newTenant } = service
  const stored = 'onboarding.store ok waba_id,phone_number_id,access_token,token_expires_at -'
  const attended = newTenant()
  await post(attended, ownLogin(), 'user-1')
  t.strictSame(await linesOf(t, service, attended), [
    `user-1 tenant ${stored}`, 'user-1 tenant onboarding.complete ok code,waba_id 127.0.0.1'
  ])
  const unattended = newTenant()
  meta.fail('phone_numbers', { drop: true })
  t.match(await post(unattended, ownLogin(), 'user-1'), { is: /^503/ })
  await makeDue(unattended)
  await untilStatus(unattended, 'completed')
  t.strictSame(await linesOf(t, service, unattended), [
    'user-1 tenant onboarding.complete failed code,waba_id 127.0.0.1',
    `- system ${stored}`, '- system onboarding.complete ok  -'
  ])
})
