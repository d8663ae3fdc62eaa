import t from '../../run/tap.js'
import { createSweeper } from '../../../src/retention/retention.js'
import { buildTestApp, connect, until, untilWaiting } from '../../helper.js'
import { forceOffboardUrl, offboardingService, offboardUrl } from '../../offboarding/offboarding-service.js'
import { config, configs } from '../../routes/client.js'

const service = await offboardingService(t)
const { app, as, admin, call, sql, meta, databaseUrl, tenant, assertDeleted } = service

const kept = async (id: string) =>
  Number((await sql('select count(*) from tenant_config_versions where tenant_id = $1', [id]))[0]?.['count'])
const remove = (id: string) => `${configs}/delete-tenant/${id}`

await t.test('a deletion without purge keeps the history, one with purge deletes it', async (t) => {
  for (const [url, is] of [
    [config, '204'], [offboardUrl, '204'], [`${config}?purge=false`, '204'], [`${offboardUrl}&purge=false`, '204']
  ] as const) {
    const { id, who } = await tenant()
    await call(who, 'PUT', config, { callback_url: 'https://a.example' })
    t.equal((await call(who, 'DELETE', url)).is, is, url)
    t.equal(await kept(id), 2, url)
  }
  for (const query of ['?purge=true', '?unsubscribe=true&purge=true', '?unsubscribe=true&force=true&purge=true']) {
    const { id, who } = await tenant()
    const other = await tenant()
    for (const one of [who, other.who]) await call(one, 'PUT', config, { callback_url: 'https://a.example' })
    t.equal((await call(who, 'DELETE', config + query)).is, '204', query)
    await assertDeleted(t, who)
    t.equal(await kept(id), 0, query)
    t.equal((await call(who, 'POST', `${config}/versions/1/restore`)).is, '404 VERSION_NOT_FOUND')
    t.same([await kept(other.id), (await call(other.who, 'GET', config)).is], [1, '200'], 'of that tenant alone')
  }
})

await t.test('the history of a deleted tenant can be purged later', async (t) => {
  for (const query of ['?purge=true', '?unsubscribe=true&purge=true']) {
    const { id, who } = await tenant()
    await call(who, 'DELETE', config)
    for (const other of ['', '?unsubscribe=true', '?purge=false']) {
      t.equal((await call(who, 'DELETE', config + other)).is, '404 CONFIG_NOT_FOUND')
    }
    t.equal(await kept(id), 1)
    t.equal((await call(who, 'DELETE', config + query)).is, '204', query)
    t.equal(await kept(id), 0)
    t.equal((await call(who, 'DELETE', config + query)).is, '404 CONFIG_NOT_FOUND')
  }
})

await t.test('an admin purges a tenant too', async (t) => {
  const { id, who } = await tenant()
  await call(who, 'PUT', config, { callback_url: 'https://a.example' })
  t.equal((await call(admin, 'DELETE', remove(id))).is, '204')
  t.equal(await kept(id), 2)
  t.equal((await call(admin, 'DELETE', `${remove(id)}?purge=true`)).is, '204')
  t.equal(await kept(id), 0)
  t.equal((await call(admin, 'DELETE', `${remove(id)}?purge=true`)).is, '404 CONFIG_NOT_FOUND')
  const next = await tenant()
  t.equal((await call(admin, 'DELETE', `${remove(next.id)}?purge=true`)).is, '204')
  t.equal(await kept(next.id), 0)
  for (const query of ['purge', 'purge=1', 'purge=true&purge=true', 'force=true']) {
    t.equal((await call(admin, 'DELETE', `${remove(next.id)}?${query}`)).is, '400 VALIDATION_FAILED', query)
    if (query !== 'force=true') t.equal((await call(who, 'DELETE', `${config}?${query}`)).is, '400 VALIDATION_FAILED')
  }
})

await t.test('an offboarding that Meta refuses purges nothing', async (t) => {
  const { id, who } = await tenant()
  await call(who, 'PUT', config, { callback_url: 'https://a.example' })
  meta.fail('unsubscribe', { reply: { status: 400, body: '{"error":{"code":190,"message":"x"}}' } })
  t.equal((await call(who, 'DELETE', `${offboardUrl}&purge=true`)).is, '502 META_UNSUBSCRIBE_REFUSED')
  t.equal(await kept(id), 1)
  t.equal((await call(who, 'DELETE', `${forceOffboardUrl}&purge=true`)).is, '204')
  t.equal(await kept(id), 0)
})

await t.test('of a purge and a restore at once, no purged secret comes back', async (t) => {
  for (let i = 0; i < 15; i++) {
    const { id, who } = await tenant()
    if (i % 2 === 0) await call(who, 'PUT', config, { callback_url: 'https://a.example' })
    else await call(who, 'DELETE', config)
    const [purged, restored] = await Promise.all([
      call(who, 'DELETE', `${config}?purge=true`), call(who, 'POST', `${config}/versions/1/restore`)
    ])
    t.equal(purged.is, '204')
    t.ok(['200', '404 VERSION_NOT_FOUND'].includes(restored.is), restored.is)
    t.equal(await kept(id), 0)
    await assertDeleted(t, who)
  }
})

await t.test('a restore waits for a purge, and finds nothing then', async (t) => {
  const { id, who } = await tenant()
  await call(who, 'DELETE', config)
  const purge = await connect(t, databaseUrl)
  await purge.query('begin')
  await purge.query('delete from tenant_config_versions where tenant_id = $1', [id])
  const answers = [
    call(who, 'POST', `${config}/versions/1/restore`), call(admin, 'POST', `${configs}/restore`, { tenant_id: id })
  ]
  await untilWaiting(databaseUrl, 2)
  await purge.query('commit')
  const [restored, byAdmin] = await Promise.all(answers)
  t.equal(restored?.is, '404 VERSION_NOT_FOUND')
  t.match(byAdmin, { is: '200', body: { restored: 0 } })
  await assertDeleted(t, who)
})

await t.test('the sweep deletes versions by their age, as the last started service has it', async (t) => {
  const sweep = async () => {
    await createSweeper({ database: app.database, closing: new AbortController().signal, log: app.log }).sweep()
  }
  await sql(`insert into tenant_config_versions
    (tenant_id, version, changed_at, changed, is_active, onboarding_completed, created_at)
    select 'aged', i, now() - interval '29 days 23 hours' - i * interval '1 hour', '{}', true, true, now()
    from generate_series(0, 2500) i`)
  await sweep()
  t.equal(await kept('aged'), 1)
  await buildTestApp(t, { DATABASE_URL: databaseUrl, VERSION_RETENTION_DAYS: '31', VERSION_MAX: '2' })
  t.match(await sql('select retention_days, max_per_tenant from version_policy'),
    [{ retention_days: 31, max_per_tenant: 2 }])
  const { who, id } = await tenant()
  for (let i = 0; i < 4; i++) await call(who, 'PUT', config, { callback_url: `https://a.example/${i}` })
  t.equal(await kept(id), 2)
  await buildTestApp(t, { DATABASE_URL: databaseUrl, VERSION_RETENTION_DAYS: '0' })
  await until(async () => (await sql('select from tenant_config_versions')).length === 0)
  await call(as(id), 'PUT', config, { callback_url: null })
  t.equal(await kept(id), 0)
})
