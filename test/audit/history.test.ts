import t from '../run/tap.js'
import { base, config, configs } from '../routes/client.js'
import { auditService } from './audit-service.js'

const { as, admin, call, recordsOf } = await auditService(t)
const actionsOf = async (tenantId: string) =>
  (await recordsOf(tenantId)).map(({ role, action, outcome }) => `${role} ${action} ${outcome}`)

await t.test('restores and purges are recorded, and a record outlives a purge', async (t) => {
  const who = as('acme')
  await call(who, 'POST', config, { waba_id: '1' })
  await call(who, 'PUT', config, { waba_id: '2' })
  t.equal((await call(who, 'POST', `${config}/versions/1/restore`)).is, '200')
  t.equal((await call(who, 'DELETE', `${config}?purge=false`)).is, '204')
  t.equal((await call(admin, 'POST', `${base}/admin/configs/restore`, { tenant_id: 'acme' })).is, '200')
  t.equal((await call(who, 'DELETE', `${config}?purge=true`)).is, '204')
  await call(who, 'POST', config, { waba_id: '3' })
  t.equal((await call(admin, 'DELETE', `${configs}/delete-tenant/acme?purge=true`)).is, '204')
  t.same(await actionsOf('acme'), [
    'tenant config.create ok', 'tenant config.update ok', 'tenant config.restore ok', 'tenant config.delete ok',
    'admin config.restore ok', 'tenant config.purge ok', 'tenant config.create ok', 'admin config.purge ok'
  ])
})

await t.test('a restore of a delete-all is recorded for no tenant', async (t) => {
  await call(as('globex'), 'POST', config, { waba_id: '1' })
  const { body } = await call(admin, 'DELETE', `${configs}/delete-all?confirm=delete-all:1`)
  t.equal((await call(admin, 'POST', `${base}/admin/configs/restore`, { batch_id: body['batch_id'] })).is, '200')
  t.same((await actionsOf('')).slice(-2), ['admin config.delete_all ok', 'admin config.restore ok'])
})
