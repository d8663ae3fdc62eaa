import pLimit from 'p-limit'
import t from '../../run/tap.js'
import { createConfigCache } from '../../../src/config-loader/cache.js'
import { DatabaseUnavailable } from '../../../src/errors.js'
import { until } from '../../without-database.js'

const LONG = 1e9

/**
 * A cache over values that the test sets, with counted reads. The read of a key without a value stays open until the
 * test resolves it.
 */
function createHeld ({ max = 10, ttl = LONG, blindTtl = LONG, staleIfError = LONG, turns = 100 } = {}) {
  const listenerHealth = { lastConfirmedAt: -Infinity, validUntil: Infinity }
  const detector = { isDown: false, failures: 0, reportFailure: () => { detector.failures++ } }
  const counts = { hits: 0, misses: 0, loads: 0, invalidations: 0, stale_serves: 0 }
  const values = new Map<string, number | null | Error>()
  const open: ((value: number | null) => void)[] = []
  const read = async (key: string) => {
    const value = values.get(key)
    if (value instanceof Error) throw value
    return value === undefined ? await new Promise<number | null>((resolve) => { open.push(resolve) }) : value
  }
  const canServeStale = (value: number | null) => value !== null
  const limitRead = pLimit(turns)
  return {
    cache: createConfigCache({
      max,
      ttl,
      blindTtl,
      staleIfError,
      listenerHealth,
      detector,
      counts,
      limitRead,
      read,
      canServeStale
    }),
    listenerHealth,
    detector,
    counts,
    values,
    open
  }
}

const away = new DatabaseUnavailable()

await t.test('a cached value is not read again and counts as a hit', async (t) => {
  const { cache, counts, values } = createHeld()
  values.set('a', 1).set('b', null)
  t.equal(cache.peekFresh('a'), undefined)
  for (const time of ['loaded', 'held']) {
    t.strictSame(await cache.get('a'), { value: 1, isStale: false }, time)
    t.strictSame(await cache.get('b'), { value: null, isStale: false }, `nothing, ${time}`)
  }
  t.equal(cache.peekFresh('a'), 1)
  t.equal(cache.peekFresh('b'), null, 'that there is nothing is held too')
  t.strictSame(counts, { hits: 4, misses: 2, loads: 2, invalidations: 0, stale_serves: 0 })
  t.equal(cache.size, 2)

  cache.invalidate('b')
  t.equal(cache.peekFresh('b'), undefined)
  t.equal(cache.peekFresh('a'), 1)
  cache.invalidateAll()
  t.equal(cache.size, 0)
})

await t.test('ten thousand concurrent calls for one key cause one read', async (t) => {
  const { cache, counts, open } = createHeld()
  const answers = Promise.all(Array.from({ length: 10_000 }, async () => await cache.get('a')))
  await until(() => open.length === 1)
  open[0]?.(1)
  t.strictSame(new Set((await answers).map(({ value }) => value)), new Set([1]))
  t.strictSame([counts.misses, counts.loads], [10_000, 1])
})

await t.test('the cache never exceeds its maximum size', async (t) => {
  const { cache, values, counts } = createHeld({ max: 3 })
  for (let key = 0; key < 1000; key++) {
    values.set(String(key), key)
    await cache.get(String(key))
    await cache.get('0')
  }
  t.equal(cache.size, 3)
  t.equal(counts.loads, 1000, 'what is asked for often stays')
  t.strictSame(['0', '1', '997', '998', '999'].map(cache.peekFresh), [0, undefined, undefined, 998, 999])
})

await t.test('a value serves for 90 to 100 percent of the TTL, and not all equally long', async (t) => {
  const ttl = 1000
  const { cache, values } = createHeld({ ttl, max: 500 })
  const keys = Array.from({ length: 500 }, (_, key) => String(key))
  const asked = performance.now()
  for (const key of keys) await cache.get((values.set(key, 1), key))
  const loaded = performance.now()
  let alive = keys.length
  let some = false
  while (alive > 0) {
    const before = performance.now()
    alive = keys.filter((key) => cache.peekFresh(key) !== undefined).length
    const after = performance.now()
    if (alive > 0 && before >= loaded + ttl) t.fail('one serves for too long')
    if (alive < keys.length && after < asked + 0.9 * ttl) t.fail('one serves for too short a time')
    some ||= alive > 0 && alive < keys.length
    await new Promise(setImmediate)
  }
  t.ok(some, 'some end before others')
})

await t.test('without the listener an entry serves for the blind TTL after its confirmation', async (t) => {
  const { cache, listenerHealth, values, counts } = createHeld({ blindTtl: 200 })
  values.set('a', 1)
  const asked = performance.now()
  await cache.get('a')
  const loaded = performance.now()
  listenerHealth.validUntil = performance.now()
  values.set('a', 2)
  for (let isHeld = true; isHeld; await new Promise(setImmediate)) {
    const before = performance.now()
    isHeld = cache.peekFresh('a') !== undefined
    if (isHeld && before >= loaded + 200) t.fail('it serves for too long')
    if (!isHeld && performance.now() < asked + 200) t.fail('it serves for too short a time')
  }
  listenerHealth.lastConfirmedAt = performance.now()
  t.equal(cache.peekFresh('a'), 1, 'it was right for as long as changes were heard')
  listenerHealth.lastConfirmedAt = performance.now() - 200
  t.equal(cache.peekFresh('a'), undefined)
  listenerHealth.validUntil = Infinity
  t.equal(cache.peekFresh('a'), 1, 'nor is it given up')
  listenerHealth.validUntil = -Infinity
  t.strictSame(await cache.get('a'), { value: 2, isStale: false })
  t.equal(counts.loads, 2)
  listenerHealth.lastConfirmedAt = performance.now() - LONG
  t.equal(cache.peekFresh('a'), 2, 'who heard long ago takes nothing away')
})

await t.test('without the listener and with a blind TTL of 0, each call is a read', async (t) => {
  const { cache, listenerHealth, values, counts } = createHeld({ blindTtl: 0 })
  listenerHealth.validUntil = -Infinity
  for (const value of [1, 2, 3]) {
    values.set('a', value)
    t.equal((await cache.get('a')).value, value)
  }
  t.strictSame([counts.hits, counts.loads], [0, 3])
})

await t.test('without the listener no caller joins a read older than the blind TTL', async (t) => {
  const { cache, listenerHealth, open } = createHeld({ blindTtl: 200 })
  listenerHealth.validUntil = -Infinity
  const begun = performance.now()
  const early = [cache.get('a'), cache.get('a')]
  const beganIn = performance.now() - begun
  await new Promise(setImmediate)
  if (beganIn < 200) t.equal(open.length, 1, 'one that has just begun is joined')
  await until(() => performance.now() >= begun + beganIn + 200)
  const late = cache.get('a')
  await until(() => open.length === 2)
  open[1]?.(2)
  t.equal((await late).value, 2)
  open[0]?.(1)
  t.strictSame((await Promise.all(early)).map(({ value }) => value), [1, 1])
  listenerHealth.validUntil = Infinity
  t.equal(cache.peekFresh('a'), 2, 'the late one of the two is held, whichever ends last')

  cache.invalidateAll()
  const before = cache.get('a')
  const again = performance.now()
  await until(() => performance.now() >= again + 200)
  const joined = cache.get('a')
  await until(() => open.length >= 3)
  t.equal(open.length, 3, 'as long as changes are heard, there is no hurry')
  open[2]?.(3)
  t.strictSame((await Promise.all([before, joined])).map(({ value }) => value), [3, 3])
})

await t.test('a key that is invalidated faster than it loads still gets an answer', async (t) => {
  const { cache, open, counts } = createHeld()
  const answer = cache.get('a')
  for (const version of [1, 2, 3]) {
    await until(() => open.length === version)
    cache.invalidate('a')
    open[version - 1]?.(version)
  }
  t.equal((await answer).value, 3)
  t.equal(counts.loads, 3)
  t.equal(cache.peekFresh('a'), undefined, 'and not held')
})

await t.test('in an outage only values that can be stale are served, marked as stale', async (t) => {
  const { cache, listenerHealth, detector, values, counts } = createHeld({ ttl: 1, staleIfError: 60_000 })
  const unavailable = { code: 'DATABASE_UNAVAILABLE' }
  values.set('a', 1).set('none', null)
  await Promise.all([cache.get('a'), cache.get('none')])
  for (const key of ['a', 'none', 'new']) values.set(key, away)
  await until(() => cache.peekFresh('a') === undefined && cache.peekFresh('none') === undefined)

  t.strictSame(await cache.get('a'), { value: 1, isStale: true })
  t.equal(detector.failures, 1, 'the first to notice says so')
  detector.isDown = true
  const { loads } = counts
  t.strictSame(await cache.get('a'), { value: 1, isStale: true })
  await t.rejects(cache.get('none'), unavailable, 'what may not')
  await t.rejects(cache.get('new'), unavailable, 'what was never held')
  t.equal(counts.loads, loads, 'nobody asks in vain')
  t.equal(counts.stale_serves, 2)

  listenerHealth.lastConfirmedAt = performance.now() + 1000 - 60_000
  t.equal((await cache.get('a')).isStale, true)
  cache.invalidate('a')
  await t.rejects(cache.get('a'), unavailable, 'what was struck out is gone')

  detector.isDown = false
  values.set('a', 2).set('none', 3)
  t.strictSame([
    await cache.get('a'), await cache.get('none')
  ], [{ value: 2, isStale: false }, { value: 3, isStale: false }])
})

await t.test('a fresh value that cannot be stale is not served in an outage', async (t) => {
  const { cache, detector, values } = createHeld()
  values.set('a', 1).set('none', null)
  await Promise.all([cache.get('a'), cache.get('none')])
  detector.isDown = true
  t.equal(cache.peekFresh('a'), 1)
  t.equal(cache.peekFresh('none'), undefined)
  await t.rejects(cache.get('none'), { code: 'DATABASE_UNAVAILABLE' })
  detector.isDown = false
  t.equal(cache.peekFresh('none'), null)
})

await t.test('stale values serve no longer than staleIfError, and never if it is 0', async (t) => {
  for (const staleIfError of [0, 300]) {
    const { cache, listenerHealth, values } = createHeld({ ttl: 1, staleIfError })
    values.set('a', 1)
    const asked = performance.now()
    await cache.get('a')
    const loaded = performance.now()
    values.set('a', away)
    const serves = async () => await cache.get('a').then(({ isStale }) => isStale, () => false)
    await until(() => cache.peekFresh('a') === undefined)
    for (let isServed = staleIfError > 0; isServed; await new Promise(setImmediate)) {
      const before = performance.now()
      isServed = await serves()
      if (isServed && before >= loaded + staleIfError) t.fail('it serves for too long')
      if (!isServed && performance.now() < asked + staleIfError) t.fail('it serves for too short a time')
    }
    t.equal(await serves(), false)
    listenerHealth.lastConfirmedAt = performance.now()
    t.equal(await serves(), staleIfError > 0, 'the time counts from when changes were last heard')
  }
})

await t.test('any other error rejects all waiting callers and is not cached', async (t) => {
  const { cache, detector, values, counts } = createHeld({ ttl: 1 })
  values.set('a', 1)
  await cache.get('a')
  await until(() => cache.peekFresh('a') === undefined)
  values.set('a', new Error('broken'))
  const outcomes = await Promise.allSettled([cache.get('a'), cache.get('a'), cache.get('a')])
  t.match(
    outcomes,
    Array(3).fill({ status: 'rejected', reason: { message: 'broken' } }),
    'what is held does not serve instead'
  )
  t.strictSame([detector.failures, counts.stale_serves, counts.loads], [0, 0, 2])
  values.set('a', 2)
  t.equal((await cache.get('a')).value, 2)
})

await t.test('loads of new keys, running or failed, evict no value and do not count in the size', async (t) => {
  const { cache, detector, values, open } = createHeld({ max: 2 })
  values.set('a', 1).set('b', 2)
  for (const key of ['a', 'b']) await cache.get(key)
  const running = ['c', 'd', 'e'].map(async (key) => await cache.get(key))
  await until(() => open.length === 3)
  t.equal(cache.size, 2)
  values.set('f', away)
  await t.rejects(cache.get('f'), away)
  detector.isDown = true
  t.strictSame(await cache.get('a'), { value: 1, isStale: false })
  t.strictSame([cache.peekFresh('a'), cache.peekFresh('b'), cache.size], [1, 2, 2])
  open.forEach((resolve, index) => { resolve(index) })
  t.strictSame((await Promise.all(running)).map(({ value }) => value), [0, 1, 2], 'more loads than entries run at once')
  t.equal(cache.size, 2)
})
