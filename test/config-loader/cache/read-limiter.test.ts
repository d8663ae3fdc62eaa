import pLimit from 'p-limit'
import t from '../../run/tap.js'
import { createConfigCache } from '../../../src/config-loader/cache.js'
import { assertWithinDeadline } from '../../../src/waiting/deadline.js'
import { DatabaseUnavailable } from '../../../src/errors.js'
import { until } from '../../without-database.js'
import { LONG } from './test-cache.js'

const unavailable = { code: 'DATABASE_UNAVAILABLE' }

/** A cache whose reads end when the test answers them; at most `maxReads` run at once. */
function createPendingCache (maxReads: number) {
  const detector = { isDown: false, failures: 0, reportFailure: () => { detector.failures++ } }
  const counts = { hits: 0, misses: 0, loads: 0, invalidations: 0, stale_serves: 0 }
  const reads: { key: string, answer: (value: number) => void, fail: (err: Error) => void }[] = []
  const read = async (key: string) =>
    await new Promise<number>((resolve, reject) => { reads.push({ key, answer: resolve, fail: reject }) })
  const listenerHealth = { lastConfirmedAt: -Infinity, validUntil: Infinity }
  const cache = createConfigCache<number>({
    max: 10,
    ttl: LONG,
    blindTtl: LONG,
    staleIfError: LONG,
    listenerHealth,
    detector,
    counts,
    limitRead: pLimit(maxReads),
    read,
    canServeStale: () => true
  })
  /** Waits until so many reads have started, and returns the last of them. */
  const begun = async (count: number) => {
    await until(() => reads.length >= count)
    return reads[count - 1] ?? { key: '', answer: () => {}, fail: () => {} }
  }
  return { cache, detector, counts, reads, begun }
}

/** Lets pending promises settle. */
const flushPromises = async () => await new Promise(setImmediate)
const ago = (ms: number) => performance.now() - ms

await t.test('concurrent reads stay within the limit, and none starts in an outage', async (t) => {
  const { cache, detector, reads, begun } = createPendingCache(2)
  const answers = Promise.allSettled(['a', 'b', 'c', 'd', 'e'].map(async (key) => (await cache.get(key)).value))
  await begun(2)
  await flushPromises()
  t.strictSame(reads.map(({ key }) => key), ['a', 'b'])
  reads[0]?.answer(1);
  (await begun(3)).answer(3)
  await begun(4)
  detector.isDown = true
  reads[3]?.answer(4)
  reads[1]?.answer(2)
  t.match(await answers, [
    { value: 1 }, { value: 2 }, { value: 3 }, { value: 4 }, { status: 'rejected', reason: unavailable }
  ])
  t.equal(reads.length, 4, 'a queued read does not start in an outage')
  detector.isDown = false
  const later = cache.get('e');
  (await begun(5)).answer(5)
  t.equal((await later).value, 5)
})

await t.test('one failed read is no outage for other callers', async (t) => {
  const { cache, detector, begun } = createPendingCache(10)
  const [first, second] = [cache.get('a'), cache.get('b')]
  await begun(2);
  (await begun(1)).fail(new DatabaseUnavailable())
  await t.rejects(first, unavailable)
  t.equal(detector.failures, 1, 'the failed read is reported');
  (await begun(2)).answer(2)
  t.equal((await second).value, 2)
  const again = cache.get('a');
  (await begun(3)).answer(3)
  t.equal((await again).value, 3, 'the next call reads again')
})

await t.test('a caller past its deadline gets a cached value but starts no read', async (t) => {
  const { cache, detector, counts, begun } = createPendingCache(10)
  await t.rejects(cache.get('a', ago(1501)), unavailable)
  t.equal(counts.loads, 0)
  t.equal(detector.failures, 0, 'a late caller is no failure of the database')
  const inTime = cache.get('a', ago(1000));
  (await begun(1)).answer(1)
  t.strictSame(await inTime, { value: 1, isStale: false })
  t.strictSame(await cache.get('a', ago(LONG)), { value: 1, isStale: false })
  t.equal(counts.loads, 1)
})

await t.test('an invalidated read is not repeated for a caller past its deadline', async (t) => {
  const { cache, counts, begun } = createPendingCache(10)
  const requestedAt = ago(1000)
  const [late, inTime] = [cache.get('a', requestedAt), cache.get('a', performance.now() + LONG)]
  await begun(1)
  cache.invalidate('a')
  await until(() => performance.now() > requestedAt + 1500);
  (await begun(1)).answer(1)
  t.equal((await late).value, 1, 'the value is newer than the call');
  (await begun(2)).answer(2)
  t.equal((await inTime).value, 2, 'a caller with time left gets the current value')
  t.equal(counts.loads, 2)
  t.equal(cache.peekFresh('a'), 2)
})

await t.test('an invalidated read that fails is not repeated for a caller past its deadline', async (t) => {
  const { cache, counts, begun } = createPendingCache(10)
  const requestedAt = ago(1000)
  const [late, inTime] = [cache.get('a', requestedAt), cache.get('a', performance.now() + LONG)]
  await begun(1)
  cache.invalidate('a')
  await until(() => performance.now() > requestedAt + 1500);
  (await begun(1)).fail(new Error('unreadable'))
  await t.rejects(late, { message: 'unreadable' });
  (await begun(2)).answer(2)
  t.equal((await inTime).value, 2)
  t.equal(counts.loads, 2)
})

await t.test('an invalidated read that is still running does not replace the newer read', async (t) => {
  const { cache, counts, begun } = createPendingCache(10)
  const old = cache.get('a', ago(1499))
  await begun(1)
  cache.invalidate('a')
  const newer = cache.get('a')
  await begun(2);
  (await begun(1)).answer(1)
  await flushPromises()
  const joined = cache.get('a')
  await flushPromises();
  (await begun(2)).answer(2)
  t.equal((await newer).value, 2)
  t.equal((await joined).value, 2)
  await old
  t.equal(counts.loads, 2)
  t.equal(cache.peekFresh('a'), 2)
})

await t.test('an invalidated read is not repeated in an outage', async (t) => {
  const { cache, detector, counts, begun } = createPendingCache(10)
  const answer = cache.get('a')
  await begun(1)
  cache.invalidate('a')
  detector.isDown = true;
  (await begun(1)).answer(1)
  t.equal((await answer).value, 1)
  t.equal(counts.loads, 1)
})

await t.test('assertWithinDeadline throws past the deadline and in an outage', async (t) => {
  t.doesNotThrow(() => { assertWithinDeadline(ago(1000), { isDown: false }) })
  t.throws(() => { assertWithinDeadline(ago(1501), { isDown: false }) }, unavailable)
  t.throws(() => { assertWithinDeadline(performance.now(), { isDown: true }) }, unavailable)
})
