import { setTimeout as delay } from 'node:timers/promises'
import t from '../../run/tap.js'
import { line } from '../../fixtures/line.js'
import { areFresh, crew, fire, populationOf } from './fire.js'
import { createWriters } from './writers.js'
import { verifyEachRow } from '../../fixtures/proven.js'
import { readingInstance } from './reading.js'
import { createDatabase, JWT_SECRET, newKey } from '../../helper.js'

const FIRE_MS = 30_000
const BOUND_MS = 1000

t.setTimeout(300_000)

const url = await createDatabase(t)
/** Of one instance: what takes its time to be read is often overtaken by the news that it has changed. */
const slow = await line(t, url)
const keyRing = `k1:${newKey()}`
// What is not heard of would be served for far longer than the bound.
const env = {
  DATABASE_URL: url,
  JWT_SECRET,
  ENCRYPTION_KEYS: keyRing,
  DATABASE_DIRECT_URL: url,
  CONFIG_CACHE_BLIND_TTL_MS: '60000'
}
const instances = await Promise.all([readingInstance(t, env), readingInstance(t, { ...env, DATABASE_URL: slow.url })])
slow.slowDown(3)
const [written, other] = instances
await verifyEachRow(url)
const writers = createWriters({ url, origin: written.origin, jwtSecret: JWT_SECRET, keyRing })
const population = populationOf(1000)
const all = await crew(t, writers, 6, population)

await t.test('1000 tenants change, come, go, and take each other’s numbers and accounts while 100 readers ask', async (t) => {
  await other.read(population.questions, 100, 5)
  await written.read(population.questions, 10, 5)
  await fire(all, async () => { await delay(FIRE_MS) })
  // What is kept that should not be, nothing strikes out any more.
  await delay(2 * BOUND_MS)
  await areFresh(t, writers, instances, BOUND_MS)
  for (const instance of instances) t.equal((await instance.stats())?.channel, 'up')
})

await t.test('the instances end as they should', async (t) => {
  for (const instance of instances) t.equal(await instance.close(), 0)
})
