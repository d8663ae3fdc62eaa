import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { stallingProxy } from '../../fixtures/proxies/stalling-proxy.js'
import { assertFresh, createCrew, populationOf, writeDuring } from './workload.js'
import { createWriters } from './writers.js'
import { ownPostgres } from '../../fixtures/postgres/own-postgres.js'
import { verifyEachRow } from '../../fixtures/verified-rows.js'
import { readingInstance } from './reading.js'
import { JWT_SECRET, newKey, query, until } from '../../helper.js'

const WRITES = 2000
const BURST_MS = 500
/** The default of `CONFIG_CACHE_BLIND_TTL_MS`. */
const BLIND_MS = 1000
/** The time after which a silent listener counts as down. */
const SILENT_MS = 6000
/** The extra delay of a machine that is busy with other tests. */
const SLACK_MS = 800

t.setTimeout(300_000)

const { url } = await ownPostgres(t)
const direct = await stallingProxy(t, url)
/** Delays the reads of one instance, so that invalidations often arrive during a read. */
const slow = await stallingProxy(t, url)
const keyRing = `k1:${newKey()}`
const env = { DATABASE_URL: url, DATABASE_DIRECT_URL: direct.url, JWT_SECRET, ENCRYPTION_KEYS: keyRing }
const instances = await Promise.all([readingInstance(t, env), readingInstance(t, { ...env, DATABASE_URL: slow.url })])
slow.slowDown(10)
await verifyEachRow(url)
const writers = createWriters({ url, origin: instances[0].origin, jwtSecret: JWT_SECRET, keyRing })
const population = populationOf(24)
const crew = await createCrew(t, writers, 4, population)

/** Pauses between bursts: otherwise the next write would invalidate a wrongly cached entry before it is too old. */
async function writeInBursts (bursts: number): Promise<void> {
  for (let times = 0; times < bursts; times++) {
    await writeDuring(crew, async () => { await delay(BURST_MS) })
    await delay(1.5 * SLACK_MS)
  }
}

/**
 * Reads on both instances while `meanwhile` writes by HTTP and SQL. Asserts that no answer is older than `bound` ms.
 */
async function assertBounded (t: Test, bound: number, meanwhile: () => Promise<void>): Promise<void> {
  for (const instance of instances) await instance.read(population.questions, 10, 2)
  await meanwhile()
  await assertFresh(t, writers, instances, bound)
}

const LISTENING = "from pg_stat_activity where application_name = 'whatsapp-tenant-config listen'"
const areUp = async () => (await Promise.all(
  instances.map(async (instance) => await instance.stats())
)).every((stats) => stats?.channel === 'up')

await t.test('answers are fresh while the listeners are up', async (t) => {
  await assertBounded(t, SLACK_MS, async () => { await writeInBursts(4) })
})

await t.test('answers stay within the blind TTL while the listening backends are terminated', async (t) => {
  await assertBounded(t, BLIND_MS + SLACK_MS, async () => {
    await writeDuring(crew, async () => {
      for (let times = 0; times < 20; times++) {
        await query(url, `select pg_terminate_backend(pid) ${LISTENING}`)
        await delay(300 * Math.random())
      }
    })
    // Shows a missed change, which would be served without an end.
    await delay(2 * (BLIND_MS + SLACK_MS))
  })
  await until(areUp)
})

await t.test('answers stay within the blind TTL while no notification arrives', async (t) => {
  await assertBounded(t, BLIND_MS + SLACK_MS, async () => {
    direct.cut()
    await writeDuring(crew, async () => { await delay(BURST_MS) })
    await delay(2 * (BLIND_MS + SLACK_MS))
  })
  direct.mend()
  await until(areUp)
})

await t.test('answers stay within the heartbeat limit while listening backends are stopped', async (t) => {
  await assertBounded(t, SILENT_MS + SLACK_MS, async () => {
    const pids = (await query(url, `select pid ${LISTENING}`)).map(({ pid }) => Number(pid))
    const each = (signal: NodeJS.Signals) => { for (const pid of pids) process.kill(pid, signal) }
    t.equal(pids.length, instances.length)
    each('SIGSTOP')
    await writeDuring(crew, async () => { await delay(SILENT_MS + 3 * SLACK_MS) }).finally(() => { each('SIGCONT') })
  })
  await until(areUp)
})

await t.test('answers are fresh again after the listeners reconnect', async (t) => {
  await assertBounded(t, SLACK_MS, async () => {
    await writeInBursts(1)
    await writeDuring(crew, async () => { while (writers.history.size < WRITES) await delay(10) })
  })
})

await t.test('the instances exit with code 0', async (t) => {
  for (const instance of instances) t.equal(await instance.close(), 0)
})
