import t from '../run/tap.js'
import { base, config, configs } from '../routes/client.js'
import { auditService } from './audit-service.js'

const { app, as, call, recordsOf, linesOf } = await auditService(t)
const auditor = { authorization: `Bearer ${app.auth.mint({ auditor: true, userId: 'auditor-1' }, 60)}` }
const nobody = { authorization: `Bearer ${app.auth.mint({ userId: 'nobody' }, 60)}` }

await t.test('a request that a guard denies is recorded for who sent it, the same one once a minute', async (t) => {
  const intruder = as('intruder', 'user-2')
  const token = app.auth.mint({ auditor: true, tenantId: 'acme', userId: 'auditor-2' }, 60)
  const both = { authorization: `Bearer ${token}` }
  await call(as('globex'), 'POST', config, { waba_id: '1' })
  for (let i = 0; i < 3; i++) {
    await call(intruder, 'DELETE', `${configs}/delete-tenant/globex`)
    await call(intruder, 'DELETE', `${configs}/delete-tenant/acme`)
    await call(intruder, 'GET', `${configs}/all`)
    await call(intruder, 'GET', `${base}/admin/nowhere`)
    await call(as('intruder', 'user-3'), 'GET', `${base}/admin/audit`)
    await call(nobody, 'PUT', config, { waba_id: '1' })
    await call(auditor, 'GET', `${configs}/all`)
    await call(both, 'GET', `${config}/full`)
    await call({}, 'GET', `${config}/full`)
    await call({ authorization: 'Bearer x.y.z' }, 'GET', `${config}/full`)
  }
  t.strictSame(await linesOf('intruder'), [
    'user-2 tenant config.delete denied FORBIDDEN', 'user-2 tenant api.access denied FORBIDDEN',
    'user-3 tenant audit.read denied FORBIDDEN'
  ])
  t.strictSame(await linesOf(''), [
    // Before the body is read.
    'nobody tenant config.update denied TENANT_CLAIM_INVALID', 'auditor-1 auditor api.access denied FORBIDDEN',
    'auditor-2 auditor config.read_full denied FORBIDDEN'
  ])
  t.equal((await recordsOf('globex')).length, 1, 'the tenant of the path has no record of it')
})

await t.test('a denied request that goes on is recorded once a minute', async (t) => {
  const { now } = performance
  t.teardown(() => { performance.now = now })
  for (const minutes of [0, 1, 2]) {
    performance.now = () => now.call(performance) + minutes * 61_000
    for (let i = 0; i < 3; i++) await call(as('stubborn'), 'GET', `${configs}/all`)
    t.equal((await linesOf('stubborn')).length, minutes + 1)
  }
})

await t.test('a limited request is not recorded', async (t) => {
  const limited = await auditService(t, { RATE_LIMIT_TENANT_PER_MINUTE: '2' })
  for (let i = 0; i < 5; i++) await limited.app.inject({ url: `${config}/full`, headers: limited.as('acme') })
  await limited.app.audit.settled()
  t.equal((await limited.recordsOf('acme')).length, 2)
})
