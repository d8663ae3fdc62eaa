import { setTimeout as delay } from 'node:timers/promises'
import t from '../run/tap.js'
import { until } from '../helper.js'
import { onboard } from '../routes/client.js'
import { idempotencyService, newKey } from './idempotency-service.js'

t.setTimeout(60_000)

await t.test('a request keeps its lease for as long as it is executed, although one renewal fails', async (t) => {
  const service = await idempotencyService(t, { GRAPH_TIMEOUT_MS: 30_000 })
  const { send, sql, login, newTenant, startWithMetaFault, withoutTable, log } = service
  const [tenant, key] = [newTenant(), newKey()]
  const body = login(tenant)
  const { answer } = await startWithMetaFault('phone_numbers', { latency_ms: 17_000 }, async () =>
    await send(tenant, key, onboard, body))
  const began = performance.now()
  await withoutTable('idempotency_keys', async () => {
    await until(() => log().includes('the lease on an idempotency key was not renewed'))
  })
  // The lease would have ended without the renewal after 10 seconds.
  await delay(16_000 - (performance.now() - began))
  t.equal((await send(tenant, key, onboard, body)).is, '409 IDEMPOTENCY_IN_PROGRESS')
  t.equal((await answer).is, '201')
  const [left] = await sql('select leased_until from idempotency_keys')
  await delay(6000)
  t.same(await sql('select leased_until from idempotency_keys'), [left], 'no renewal after the answer')
})
