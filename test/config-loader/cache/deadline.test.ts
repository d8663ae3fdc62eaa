import { setTimeout as delay } from 'node:timers/promises'
import t from '../../run/tap.js'
import { createConfigCache } from '../../../src/config-loader/cache.js'
import { createReadLimiter } from '../../../src/config-loader/read-limiter.js'
import { until } from '../../without-database.js'
import { LONG } from './test-cache.js'

const unavailable = { code: 'DATABASE_UNAVAILABLE' }
const ago = (ms: number) => performance.now() - ms
/** Lets pending promises settle. */
const flushPromises = async () => await new Promise(setImmediate)

/** A cache whose reads end when the test answers them. */
function createPendingCache (connections: number, ttl = LONG) {
  const detector = { isDown: false, failures: 0, reportFailure: () => { detector.failures++ } }
  const counts = { hits: 0, misses: 0, loads: 0, invalidations: 0, stale_serves: 0 }
  const reads: { key: string, answer: (value: number) => void }[] = []
  const read = async (key: string) => await new Promise<number>((resolve) => { reads.push({ key, answer: resolve }) })
  const listenerHealth = { lastConfirmedAt: -Infinity, validUntil: Infinity }
  const shared = {
    max: 10_000,
    ttl,
    blindTtl: LONG,
    staleIfError: 10_000,
    listenerHealth,
    detector,
    counts,
    limitRead: createReadLimiter(connections)
  }
  const cache = createConfigCache<number>({ ...shared, read, canServeStale: (value) => value > 0 })
  const answered = async (count: number, value: number) => {
    await until(() => reads.length >= count)
    reads[count - 1]?.answer(value)
  }
  return { cache, detector, counts, reads, answered }
}

await t.test('a caller past its deadline gets the last known value, and the read continues', async (t) => {
  const { cache, detector, counts, answered } = createPendingCache(1, 1)
  const known = cache.get('known')
  await answered(1, 7)
  await known
  await delay(5)
  t.equal(cache.peekFresh('known'), undefined, 'the TTL is over')
  const early = cache.get('known', ago(1000))
  const [lateKnown, late] = [cache.get('known', ago(1400)), cache.get('cold', ago(1400))]
  t.strictSame(await lateKnown, { value: 7, isStale: true })
  await t.rejects(late, unavailable)
  t.equal(counts.stale_serves, 1)
  t.equal(detector.failures, 0, 'a slow read is no outage')
  await answered(2, 8)
  t.strictSame(await early, { value: 8, isStale: false })
  t.equal(counts.loads, 3)
})

await t.test('a queued read without waiting callers never starts, unless a caller joined it', async (t) => {
  const { cache, detector, reads, answered } = createPendingCache(1)
  const first = cache.get('first')
  await until(() => reads.length === 1)
  const left = [cache.get('left', ago(1400)), cache.get('joined', ago(1400))]
  for (const caller of left) await t.rejects(caller, unavailable)
  const joined = cache.get('joined')
  await answered(1, 1)
  await first
  await answered(2, 2)
  t.strictSame(await joined, { value: 2, isStale: false })
  t.strictSame(reads.map(({ key }) => key), ['first', 'joined'])
  t.equal(detector.failures, 0)
})

await t.test('a value that cannot be stale is not served past the deadline', async (t) => {
  const { cache, answered } = createPendingCache(1, 1)
  const nobody = cache.get('nobody')
  await answered(1, 0)
  await nobody
  await delay(5)
  await t.rejects(cache.get('nobody', ago(1400)), unavailable, 'a missing row cannot be stale')
})

await t.test('at most 2,000 reads queue per connection; callers that join one use no place', async (t) => {
  const { cache, detector, counts, reads } = createPendingCache(2)
  const all = Array.from({ length: 4002 }, async (_, key) => await cache.get(String(key)))
  await flushPromises()
  const waiting = Promise.allSettled(all)
  await until(() => reads.length === 2)
  const joined = cache.get('4001')
  const refused = cache.get('one more')
  await t.rejects(refused, unavailable)
  await t.rejects(cache.get('and another'), unavailable)
  t.equal(detector.failures, 0)
  const answering = new AbortController()
  const done = waiting.finally(() => { answering.abort() })
  for (let next = 0; !answering.signal.aborted; await flushPromises()) {
    while (next < reads.length) reads[next++]?.answer(1)
  }
  t.strictSame(new Set((await done).map(({ status }) => status)), new Set(['fulfilled']))
  t.strictSame(await joined, { value: 1, isStale: false })
  t.equal(counts.loads, 4004)
  const again = cache.get('one more')
  await until(() => reads.length === 4003)
  reads.at(-1)?.answer(3)
  t.equal((await again).value, 3, 'the queue has room again')
})
