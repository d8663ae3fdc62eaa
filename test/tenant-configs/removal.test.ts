import t from '../run/tap.js'
import { onboardingService, type Body } from '../onboarding/onboarding-service.js'
import { connect, until, untilWaiting } from '../helper.js'
import { config, configs } from '../routes/client.js'

const service = await onboardingService(t)
const { as, admin, call, post, resume, login, newTenant, row, records, sql, databaseUrl, issue, waba } = service

// Blocks a storing transaction between the write of the configuration and the write of its record.
await sql(`create function block_write() returns trigger language plpgsql as $$ begin
    perform pg_advisory_xact_lock_shared(1);
    return null;
  end $$;
  create trigger block_write after insert or update of access_token on tenant_configs
    for each row execute function block_write()`)

type Block = (tenant: string) => Promise<{
  login: Body
  untilBlocked: (waiting: number) => Promise<void>
  release: () => Promise<void>
}>

/** The point at which a storing onboarding is blocked. `untilBlocked` waits until `waiting` statements are blocked. */
const blocks: Record<string, Block> = {
  'its configuration is written': async (tenant) => {
    const lock = await connect(t, databaseUrl)
    await lock.query('select pg_advisory_lock(1)')
    return {
      login: login(tenant),
      untilBlocked: async (waiting) => { await untilWaiting(databaseUrl, waiting) },
      release: async () => { await lock.end() }
    }
  },
  // The store step writes its record before it ends the older logins of the tenant.
  'its record is written too': async (tenant) => {
    t.equal((await post(tenant, { code: issue(), waba_id: waba.id })).is, '409 META_PHONE_CHOICE_REQUIRED')
    const lock = await connect(t, databaseUrl)
    await lock.query('begin')
    await lock.query('select from onboardings where tenant_id = $1 for update', [tenant])
    return {
      login: login(tenant),
      untilBlocked: async (waiting) => { await untilWaiting(databaseUrl, waiting) },
      release: async () => { await lock.query('rollback') }
    }
  }
}

const deletions: Record<string, (tenant: string) => Promise<string>> = {
  DELETE: async (tenant) => (await call(as(tenant), 'DELETE', config)).is,
  'DELETE with unsubscribe': async (tenant) => (await call(as(tenant), 'DELETE', `${config}?unsubscribe=true`)).is,
  'delete-tenant': async (tenant) =>
    (await call(admin, 'DELETE', `${configs}/delete-tenant/${encodeURIComponent(tenant)}`)).is,
  // The count is checked in the end, so a row that is stored meanwhile makes it 1.
  'delete-all': async () => {
    const { is } = await call(admin, 'DELETE', `${configs}/delete-all?confirm=delete-all:0`)
    if (is !== '409 CONFIRMATION_MISMATCH') return is
    return (await call(admin, 'DELETE', `${configs}/delete-all?confirm=delete-all:1`)).is
  }
}

for (const [moment, block] of Object.entries(blocks)) {
  for (const [name, remove] of Object.entries(deletions)) {
    for (const isConfigured of [false, true]) {
      await t.test(`${name} ends a login when ${moment}, ${isConfigured ? 'with' : 'without'} a row`, async (t) => {
        await sql('delete from tenant_configs')
        const tenant = newTenant()
        if (isConfigured) {
          t.equal((await call(as(tenant), 'POST', config, { callback_url: 'https://a.example' })).is, '201')
        }
        const { login, untilBlocked, release } = await block(tenant)
        const onboarding = post(tenant, login)
        await untilBlocked(1)
        const removed = remove(tenant)
        // A deletion that does not block on the onboarding ends it first.
        await until(async () => await Promise.race([removed.then(() => true), untilBlocked(2).then(() => true)]))
        await release()
        t.match(await removed, /^20[04]$/)
        t.equal((await onboarding).is, '409 ONBOARDING_SUPERSEDED')
        t.equal(await row(tenant), undefined, 'no configuration is left')
        for (const record of await records(tenant)) {
          t.match(record, { status: 'failed', access_token: null, holder: null })
        }
        t.equal((await resume(tenant)).is, '409 ONBOARDING_SUPERSEDED')
      })
    }
  }
}

await t.test('a delete-all with a wrong confirmation ends no onboarding', async (t) => {
  await sql('delete from tenant_configs')
  const tenant = newTenant()
  t.equal((await post(tenant, { code: issue(), waba_id: waba.id })).is, '409 META_PHONE_CHOICE_REQUIRED')
  t.equal((await call(admin, 'DELETE', `${configs}/delete-all?confirm=delete-all:1`)).is, '409 CONFIRMATION_MISMATCH')
  t.match(await records(tenant), [{ status: 'in_progress', access_token: /^v2\./ }])
})

await t.test('a token that arrives after its tenant was deleted is not stored', async (t) => {
  const tenant = newTenant()
  const { answer: first } = await service.startWithMetaFault(
    'access_token',
    { latency_ms: 1000 },
    async () => await post(tenant, login(tenant))
  )
  await service.expireLeases(tenant)
  t.equal((await resume(tenant)).is, '502 META_EXCHANGE_UNKNOWN')
  t.equal((await call(as(tenant), 'DELETE', config)).is, '204')
  t.equal((await first).is, '502 META_EXCHANGE_UNKNOWN')
  t.equal(await row(tenant), undefined)
})

await t.test('a DELETE with unsubscribe ends a waiting login of a tenant without a configuration', async (t) => {
  const tenant = newTenant()
  t.equal((await post(tenant, { code: issue(), waba_id: waba.id })).is, '409 META_PHONE_CHOICE_REQUIRED')
  t.equal((await call(as(tenant), 'DELETE', `${config}?unsubscribe=true`)).is, '204')
  t.match(await records(tenant), [{ status: 'failed', access_token: null, holder: null }])
  t.equal((await call(as(tenant), 'DELETE', `${config}?unsubscribe=true`)).is, '404 CONFIG_NOT_FOUND')
})
