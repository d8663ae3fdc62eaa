import { setTimeout as delay } from 'node:timers/promises'
import t from '../run/tap.js'
import { config, full, serviceKeys } from '../routes/client.js'
import { until } from '../helper.js'
import { keysClient } from './keys-client.js'

const one = await keysClient(t)
const other = await keysClient(t, { DATABASE_URL: one.databaseUrl })
await one.call(one.as('acme'), 'POST', config, full)
const isOf = async ({ read }: typeof one, header: Record<string, string>) => (await read(header, 'tenant_id=acme')).is

await t.test('another instance admits a new key at once, and refuses a deleted one within a second', async (t) => {
  for (let i = 0; i < 3; i++) {
    const { id, header } = await one.createKey()
    for (const instance of [other, one]) t.equal(await isOf(instance, header), '200')
    await other.call(other.admin, 'DELETE', `${serviceKeys}/${id}`)
    const deletedAt = performance.now()
    await until(async () => await isOf(one, header) === '401 UNAUTHENTICATED')
    t.ok(performance.now() - deletedAt < 1000, `${Math.round(performance.now() - deletedAt)} ms`)
    t.equal(await isOf(other, header), '401 UNAUTHENTICATED')
    await delay(600)
    for (const instance of [one, other]) t.equal(await isOf(instance, header), '401 UNAUTHENTICATED')
  }
})

await t.test('a key that psql deletes or changes holds within a second, too', async (t) => {
  const { id, header } = await one.createKey()
  t.equal(await isOf(one, header), '200')
  await one.sql("update service_keys set scopes = '{configs:read}' where id = $1", [id])
  await delay(1000)
  t.equal(await isOf(one, header), '403 SCOPE_MISSING')
  await one.sql('truncate service_keys')
  await delay(1000)
  t.equal(await isOf(one, header), '401 UNAUTHENTICATED')
})

await t.test('unknown keys are read by two connections at most, and known ones are still admitted', async (t) => {
  const { header } = await one.createKey()
  const guesses = Array.from({ length: 300 }, async (_, i) => await isOf(one, {
    authorization: `Bearer wtc_${i.toString(16).padStart(20, '0')}_${'A'.repeat(43)}`
  }))
  t.equal(await isOf(one, header), '200')
  t.strictSame(new Set(await Promise.all(guesses)), new Set(['401 UNAUTHENTICATED']))
})
