import { Registry } from 'prom-client'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { createCollected } from '../../src/metrics/collected.js'
import { addState } from '../../src/metrics/state.js'
import { numberStatuses, tokenStatuses } from '../../src/schemas/statuses.js'
import { WATCHED } from '../cluster/where.js'
import { buildTestApp, connect, makeUnreachable, newKey, query } from '../helper.js'
import { putEvent } from '../events/event-receiver.js'
import { metricsUrl, scrape } from './scrape.js'

/** The metrics that are read from the database, without `wtc_database_up`. */
const read = [
  'wtc_watch_due_tokens', 'wtc_watch_lag_seconds', 'wtc_outbox_events', 'wtc_outbox_age_seconds',
  'wtc_migrations_pending', 'wtc_tenants', 'wtc_tokens', 'wtc_numbers', 'wtc_vault_key_in_use',
  'wtc_vault_values', 'wtc_vault_seals'
]

/** A service with two keys, of which the first seals. */
async function service (t: Test) {
  const app = await buildTestApp(t, { METRICS_PORT: 0, ENCRYPTION_KEYS: `new-key:${newKey()},old_key:${newKey()}` })
  return { ...app, scrape: async () => await scrape(metricsUrl(app.log())) }
}

await t.test('the state of an empty database', async (t) => {
  const { scrape } = await service(t)
  const { samples, value } = await scrape()
  t.equal(value('wtc_database_up'), 1)
  for (const { name, labels, value } of samples.filter(({ name }) => read.includes(name))) {
    // The first key has sealed the audit key.
    const isOfFirstKey = ['wtc_vault_key_in_use', 'wtc_vault_values'].includes(name) && labels['key_id'] === 'new-key'
    const expected = isOfFirstKey ? 1 : 0
    t.equal(value, expected, `${name} ${JSON.stringify(labels)}`)
  }
  t.strictSame([...new Set(samples.map(({ name }) => name))].filter((name) => read.includes(name)).sort(), read.sort())
})

await t.test('the state of tenants, tokens, numbers, events, keys and migrations', async (t) => {
  const { app, databaseUrl, scrape } = await service(t)
  for (const tenant of ['a', 'b', 'c']) {
    await app.tenantConfigs.create(tenant, null, { access_token: `EAAG-${tenant}`, phone_number_id: tenant })
  }
  await app.tenantConfigs.create('without', null, { waba_id: '1' })
  await app.tenantConfigs.setActive('c', false)
  // The scheduler skips the rows of another claim.
  const scheduler = await connect(t, databaseUrl)
  await query(databaseUrl, `${WATCHED};
    update token_watch set status = 'revoked', next_check_at = now() - interval '90 seconds' where tenant_id = 'a'`)
  await scheduler.query('begin; select from token_watch for update')
  await putEvent(databaseUrl, 'a', 'first', '10 minutes')
  await putEvent(databaseUrl, 'b', 'second')
  await query(databaseUrl, "update vault_keys set seals = 7 where key_id = 'new-key'")
  await query(databaseUrl, `delete from drizzle.__whatsapp_tenant_config_migrations
    where created_at = (select max(created_at) from drizzle.__whatsapp_tenant_config_migrations)`)

  const { samples, value } = await scrape()
  await scheduler.query('rollback')
  const by = (name: string, label: string) => Object.fromEntries(samples.filter((sample) => sample.name === name)
    .map(({ labels, value }) => [labels[label], value]))
  const none = (names: readonly string[]) => Object.fromEntries(names.map((name) => [name, 0]))
  t.strictSame(by('wtc_tenants', 'state'), { active: 3, inactive: 1 })
  t.strictSame(by('wtc_tokens', 'status'), { ...none(tokenStatuses), revoked: 1, unverified: 2 })
  t.strictSame(by('wtc_numbers', 'status'), { ...none(numberStatuses), unknown: 3, none: 1 })
  t.strictSame(by('wtc_vault_key_in_use', 'key_id'), { 'new-key': 1, old_key: 0 })
  t.strictSame(by('wtc_vault_values', 'key_id'), { 'new-key': 5, old_key: 0 }, 'with a version and the audit key')
  t.strictSame(by('wtc_vault_seals', 'key_id'), { 'new-key': 7, old_key: 0 })
  t.equal(value('wtc_watch_due_tokens'), 1)
  const lag = value('wtc_watch_lag_seconds') ?? 0
  t.ok(lag >= 90 && lag < 300, `${lag}`)
  t.equal(value('wtc_outbox_events'), 2)
  const age = value('wtc_outbox_age_seconds') ?? 0
  t.ok(age >= 600 && age < 900, `${age}`)
  t.equal(value('wtc_migrations_pending'), 1)
})

await t.test('while the database is away a scrape succeeds, and its metrics are left out', async (t) => {
  const { app, databaseUrl, scrape, log } = await service(t)
  const restore = await makeUnreachable(databaseUrl)
  t.teardown(restore)
  const { samples, value } = await scrape()
  t.equal(value('wtc_database_up'), 0)
  t.strictSame(samples.filter(({ name }) => read.includes(name)), [])
  t.type(value('wtc_loader_loads_total'), 'number')
  t.match(log(), /the state of the database could not be read for the metrics/)
  await app.close()
})

await t.test('the counts of other statuses stay out of the pool, and one statement serves all scrapes', async (t) => {
  const { app: { database, tenantConfigs, vault, log }, databaseUrl } = await buildTestApp(t)
  const counts = { run: 0, read: 0 }
  const registry = new Registry()
  addState(createCollected(registry), {
    database: {
      run: async (statement, values) => {
        counts.run++
        return await database.run(statement, values)
      },
      read: async (work, timeoutMs) => {
        counts.read++
        return await database.read(work, timeoutMs)
      }
    },
    tenantConfigs,
    vault,
    log
  })
  for (let round = 0; round < 3; round++) {
    for (const text of await Promise.all(Array.from({ length: 20 }, async () => await registry.metrics()))) {
      t.match(text, /^wtc_database_up 1$/m)
    }
  }
  t.strictSame(counts, { run: 1, read: 1 }, 'the backlog; the counts')

  // Known values stay valid for their period, also when the database leaves meanwhile.
  t.teardown(await makeUnreachable(databaseUrl))
  t.match(await registry.metrics(), /^wtc_tokens\{status="ok"\} 0$/m)
})
