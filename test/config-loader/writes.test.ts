import t from '../run/tap.js'
import { storeVerified } from '../fixtures/verified-rows.js'
import { buildTestApp, connect, query, until, untilWaiting } from '../helper.js'
import { env } from './complete-config.js'
import { slowReads } from './slow-reads.js'

await t.test('a write through this process is visible to the next call', async (t) => {
  const { app } = await buildTestApp(t, env)
  const { tenantConfigs, configLoader } = app
  const verified = { waba_id: 'verified', phone_number_id: '1', access_token: 'EAAG', token_expires_at: null }
  const writes: [string, () => Promise<unknown>, string | null][] = [
    ['create', async () => await tenantConfigs.create('acme', null, { waba_id: 'created' }), 'created'],
    ['update', async () => await tenantConfigs.update('acme', { waba_id: 'updated' }), 'updated'],
    ['deactivate', async () => await tenantConfigs.setActive('acme', false), env.WHATSAPP_WABA_ID],
    ['activate', async () => await tenantConfigs.setActive('acme', true), 'updated'],
    ['onboard over the row', async () => await storeVerified(app, 'acme', verified), 'verified'],
    ['clear', async () => await tenantConfigs.update('acme', { waba_id: null }), null],
    ['delete', async () => await tenantConfigs.remove('acme'), env.WHATSAPP_WABA_ID],
    ['onboard anew', async () => await storeVerified(app, 'acme', verified), 'verified'],
    ['delete all', async () => await tenantConfigs.removeAll(1), env.WHATSAPP_WABA_ID]
  ]
  for (const [what, write, expected] of writes) {
    await configLoader.forTenant('acme')
    await write()
    t.equal((await configLoader.forTenant('acme')).getWabaId(), expected, what)
  }
})

await t.test('a load that started before a write returns the written values', async (t) => {
  const { app: { tenantConfigs, configLoader }, databaseUrl } = await buildTestApp(t)
  await slowReads(databaseUrl)
  const lockHolder = await connect(t, databaseUrl)
  const writes: [string, () => Promise<unknown>, string | null][] = [
    ['update', async () => await tenantConfigs.update('update', { waba_id: 'new' }), 'new'],
    ['deactivate', async () => await tenantConfigs.setActive('deactivate', false), null],
    ['delete', async () => await tenantConfigs.remove('delete'), null],
    ['delete all', async () => await tenantConfigs.removeAll(1), null]
  ]
  for (const [tenant, write, expected] of writes) {
    await query(databaseUrl, 'delete from stored')
    await query(databaseUrl, "insert into stored (tenant_id, waba_id) values ($1, 'old')", [tenant])
    const wabaId = async () => (await configLoader.forTenant(tenant)).getWabaId()
    await lockHolder.query('select pg_advisory_lock(7)')
    const early = wabaId()
    await untilWaiting(databaseUrl, 1)
    await write()
    const late = wabaId()
    await lockHolder.query('select pg_advisory_unlock(7)')
    t.equal(await early, expected, `${tenant}: the early load read the old row and is repeated`)
    t.equal(await late, expected, `${tenant}: a call after the write does not join the early load`)
    t.equal(await wabaId(), expected, `${tenant}: the old row is not cached`)
  }
})

await t.test('a write that the database executes after its timeout becomes visible', async (t) => {
  const { app: { tenantConfigs, configLoader }, databaseUrl } = await buildTestApp(t)
  await tenantConfigs.create('acme', null, { waba_id: 'old' })
  // The update ignores its cancellation, so that the service times out first.
  await query(databaseUrl, `
    create function stubborn() returns trigger language plpgsql security definer as $$ begin
      perform pg_advisory_xact_lock_shared(7);
      return new;
    exception when query_canceled then
      perform pg_advisory_xact_lock_shared(7);
      return new;
    end $$;
    create trigger stubborn before update on tenant_configs for each row execute function stubborn()`)
  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query('select pg_advisory_lock(7)')
  await t.rejects(tenantConfigs.update('acme', { waba_id: 'new' }), { code: 'DATABASE_UNAVAILABLE' })
  const cached = await configLoader.forTenant('acme')
  t.equal(cached.getWabaId(), 'old')
  t.equal(await configLoader.forTenant('acme'), cached, 'the old row is cached before the write ends')
  await lockHolder.query('select pg_advisory_unlock(7)')
  await until(async () => (await configLoader.forTenant('acme')).getWabaId() === 'new')
  t.match(configLoader.stats(), { channel: 'up' })
})
