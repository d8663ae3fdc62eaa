import { setTimeout as delay } from 'node:timers/promises'
import t from '../../run/tap.js'
import { stallingProxy } from '../../fixtures/proxies/stalling-proxy.js'
import { assertFresh, createCrew, populationOf, writeDuring } from './workload.js'
import { createWriters } from './writers.js'
import { verifyEachRow } from '../../fixtures/verified-rows.js'
import { readingInstance } from './reading.js'
import { createDatabase, JWT_SECRET, newKey } from '../../helper.js'

const WRITING_MS = 30_000
const BOUND_MS = 1000

t.setTimeout(300_000)

const url = await createDatabase(t)
/** Delays the reads of one instance, so that invalidations often arrive during a read. */
const slow = await stallingProxy(t, url)
const keyRing = `k1:${newKey()}`
// With a long blind TTL a missed invalidation shows as an answer older than the bound.
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
const crew = await createCrew(t, writers, 6, population)

await t.test('answers are right while 1000 tenants change and swap ids under 100 readers', async (t) => {
  await other.read(population.questions, 100, 5)
  await written.read(population.questions, 10, 5)
  await writeDuring(crew, async () => { await delay(WRITING_MS) })
  // Without further writes nothing invalidates a wrongly cached entry.
  await delay(2 * BOUND_MS)
  await assertFresh(t, writers, instances, BOUND_MS)
  for (const instance of instances) t.equal((await instance.stats())?.channel, 'up')
})

await t.test('the instances exit with code 0', async (t) => {
  for (const instance of instances) t.equal(await instance.close(), 0)
})
