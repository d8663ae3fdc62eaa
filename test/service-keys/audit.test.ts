import t from '../run/tap.js'
import { auditService } from '../audit/audit-service.js'
import { verifyStored } from '../fixtures/verified-rows.js'
import { base, config, configs, full, serviceKeys } from '../routes/client.js'
import { connect } from '../helper.js'
import { bearer, keysClient } from './keys-client.js'

const { app, as, admin, call, createKey, databaseUrl, read } = await keysClient(t)
// Another instance, which reads the records.
const { recordsOf, verify } = await auditService(t, { DATABASE_URL: databaseUrl })
for (const id of ['acme', 'shop', 'quiet']) {
  await call(as(id), 'POST', config, { ...full, phone_number_id: `phone-${id}` })
  await verifyStored(app, id)
}

/** The last records of a chain, in short: `actor role action outcome code fields count`. */
async function linesOf (tenantId: string, after: number) {
  await app.audit.settled()
  return (await recordsOf(tenantId)).slice(after).map(({ actor, role, action, outcome, code, fields, count }) =>
    [actor ?? '-', role, action, outcome, code ?? '-', String(fields) || '-', count].join(' '))
}
const numberOf = async (tenantId: string) => (await linesOf(tenantId, 0)).length

await t.test('the creation and the deletion of a key are recorded, and who tries them', async (t) => {
  const before = await numberOf('')
  const boss = bearer(app.auth.mint({ admin: true, userId: 'boss' }, 60))
  const sent = { name: 'worker', scopes: ['configs:read'], tenants: ['acme'] }
  const { body: { id } } = await call(boss, 'POST', serviceKeys, sent)
  await call(boss, 'POST', serviceKeys, { ...sent, scopes: ['all'] })
  await call(boss, 'GET', serviceKeys)
  for (let i = 0; i < 2; i++) await call(boss, 'DELETE', `${serviceKeys}/${String(id)}`)
  t.strictSame(await linesOf('', before), [
    'boss admin service_key.create ok - name,scopes,tenants 1',
    'boss admin service_key.create refused VALIDATION_FAILED name,scopes,tenants 1',
    'boss admin service_key.delete ok - - 1',
    'boss admin service_key.delete refused SERVICE_KEY_NOT_FOUND - 1'
  ])
  const inChain = await numberOf('acme')
  await call(as('acme', 'user-1'), 'POST', serviceKeys, sent)
  t.strictSame(await linesOf('acme', inChain), ['user-1 tenant service_key.create denied FORBIDDEN - 1'])
})

await t.test('what a key is denied is recorded under its id, in the chain of no tenant', async (t) => {
  const { id, header } = await createKey({ scopes: ['configs:read'], tenants: ['acme'] })
  const before = [await numberOf(''), await numberOf('shop')]
  for (const url of [
    `${configs}/effective/acme`, `${configs}/effective/shop`, `${base}/admin/audit`, `${configs}/stats`,
    `${configs}/nothing`
  ]) await call(header, 'GET', url)
  await call(header, 'DELETE', `${configs}/delete-tenant/acme`)
  await call(header, 'DELETE', `${serviceKeys}/${id}`)
  t.strictSame(await linesOf('', before[0] ?? 0), [
    `${id} service_key api.access denied FORBIDDEN - 1`, `${id} service_key audit.read denied FORBIDDEN - 1`,
    `${id} service_key config.delete denied FORBIDDEN - 1`, `${id} service_key service_key.delete denied FORBIDDEN - 1`
  ])
  t.equal(await numberOf('shop'), before[1])
  const other = await createKey({ scopes: ['configs:read'] })
  const after = await numberOf('')
  t.equal((await read(other.header, 'tenant_id=acme')).is, '403 SCOPE_MISSING')
  t.strictSame(await linesOf('', after), [`${other.id} service_key api.access denied SCOPE_MISSING - 1`])
})

await t.test('the first read of a tenant is recorded before its answer leaves, and the next are counted', async (t) => {
  const { id, header } = await createKey()
  const before = { acme: await numberOf('acme'), shop: await numberOf('shop'), none: await numberOf('') }
  for (const query of ['tenant_id=acme', 'phone_number_id=phone-acme', 'tenant_id=acme', 'tenant_id=nobody']) {
    t.equal((await read(header, query)).is, '200')
  }
  t.match((await read(header, 'waba_id=waba-1')).body['configs'], { length: 3 })
  t.equal((await read(header, 'phone_number_id=nobody')).is, '404 CONFIG_NOT_FOUND')
  const line = `${id} service_key config.resolve ok - - 1`
  for (const [tenantId, after] of [['acme', before.acme], ['shop', before.shop], ['', before.none]] as const) {
    t.strictSame(await linesOf(tenantId, after), [line], tenantId)
  }
  t.match((await recordsOf('acme')).at(-1), { address: '127.0.0.1', request_id: /./ })
  const { body } = await call(as('acme'), 'GET', `${config}/audit?limit=1`)
  t.match(body['records'], [{ role: 'service_key', action: 'config.resolve', count: 1, actor: null, address: null }])
})

await t.test('without its record no secret leaves; a read that is counted needs none', async (t) => {
  const [used, unused] = [await createKey(), await createKey()]
  t.equal((await read(used.header, 'tenant_id=acme')).is, '200')
  const before = await numberOf('quiet')
  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query('begin; lock table audit_log')
  const queries = ['tenant_id=quiet', 'phone_number_id=phone-quiet', 'waba_id=waba-1', 'tenant_id=nobody']
  const began = performance.now()
  const [counted, created, ...refused] = await Promise.all([
    read(used.header, 'tenant_id=acme'),
    call(admin, 'POST', serviceKeys, { name: 'unseen', scopes: ['configs:read'] }),
    ...queries.map(async (query) => await read(unused.header, query))
  ])
  t.ok(performance.now() - began < 5000)
  t.equal(counted.is, '200')
  for (const answer of [created, ...refused]) {
    t.equal(answer.is, '503 AUDIT_UNAVAILABLE')
    for (const value of ['wtc_', full.access_token, full.fb_app_secret, full.verify_token]) {
      t.notMatch(JSON.stringify(answer), value)
    }
  }
  await lockHolder.query('commit')
  for (const query of queries) t.equal((await read(unused.header, query)).is, '200', query)
  const lines = await linesOf('quiet', before)
  // A record may be stored after its request was refused.
  t.equal(lines.at(-1), `${unused.id} service_key config.resolve ok - - 1`)
})

await t.test('the counts are recorded when the service closes, and every chain verifies', async (t) => {
  const { id, header } = await createKey()
  const before = await numberOf('acme')
  for (let i = 0; i < 5; i++) await read(header, 'tenant_id=acme')
  await app.close()
  const own = (await recordsOf('acme')).slice(before).filter(({ actor }) => actor === id)
  t.match(own, [
    { role: 'service_key', action: 'config.resolve', count: 1, address: '127.0.0.1' },
    { role: 'service_key', action: 'config.resolve', count: 4, address: null, request_id: null }
  ])
  t.same((await verify()).broken, [])
})
