import t from '../../run/tap.js'
import { until } from '../../without-database.js'
import { createTestCache, databaseDown } from './test-cache.js'

await t.test('a cached value is not read again and counts as a hit', async (t) => {
  const { cache, counts, values } = createTestCache()
  values.set('a', 1).set('b', null)
  t.equal(cache.peekFresh('a'), undefined)
  for (const time of ['loaded', 'cached']) {
    t.strictSame(await cache.get('a'), { value: 1, isStale: false }, time)
    t.strictSame(await cache.get('b'), { value: null, isStale: false }, `null, ${time}`)
  }
  t.equal(cache.peekFresh('a'), 1)
  t.equal(cache.peekFresh('b'), null, 'null is cached too')
  t.strictSame(counts, { hits: 4, misses: 2, loads: 2, invalidations: 0, stale_serves: 0 })
  t.equal(cache.size, 2)

  cache.invalidate('b')
  t.equal(cache.peekFresh('b'), undefined)
  t.equal(cache.peekFresh('a'), 1)
  cache.invalidateAll()
  t.equal(cache.size, 0)
})

await t.test('ten thousand concurrent calls for one key cause one read', async (t) => {
  const { cache, counts, open } = createTestCache()
  const answers = Promise.all(Array.from({ length: 10_000 }, async () => await cache.get('a')))
  await until(() => open.length === 1)
  open[0]?.(1)
  t.strictSame(new Set((await answers).map(({ value }) => value)), new Set([1]))
  t.strictSame([counts.misses, counts.loads], [10_000, 1])
})

await t.test('the cache never exceeds its maximum size', async (t) => {
  const { cache, values, counts } = createTestCache({ max: 3 })
  for (let key = 0; key < 1000; key++) {
    values.set(String(key), key)
    await cache.get(String(key))
    await cache.get('0')
  }
  t.equal(cache.size, 3)
  t.equal(counts.loads, 1000, 'an entry that is read often stays')
  t.strictSame(['0', '1', '997', '998', '999'].map(cache.peekFresh), [0, undefined, undefined, 998, 999])
})

await t.test('a value serves for 90 to 100 percent of the TTL, and not all equally long', async (t) => {
  const ttl = 1000
  const { cache, values } = createTestCache({ ttl, max: 500 })
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
    if (alive > 0 && before >= loaded + ttl) t.fail('an entry serves for too long')
    if (alive < keys.length && after < asked + 0.9 * ttl) t.fail('an entry serves for too short a time')
    some ||= alive > 0 && alive < keys.length
    await new Promise(setImmediate)
  }
  t.ok(some, 'some entries end before others')
})

await t.test('a key that is invalidated faster than it loads still gets an answer', async (t) => {
  const { cache, open, counts } = createTestCache()
  const answer = cache.get('a')
  for (const version of [1, 2, 3]) {
    await until(() => open.length === version)
    cache.invalidate('a')
    open[version - 1]?.(version)
  }
  t.equal((await answer).value, 3)
  t.equal(counts.loads, 3)
  t.equal(cache.peekFresh('a'), undefined, 'the value is not cached')
})

await t.test('any other error rejects all waiting callers and is not cached', async (t) => {
  const { cache, detector, values, counts } = createTestCache({ ttl: 1 })
  values.set('a', 1)
  await cache.get('a')
  await until(() => cache.peekFresh('a') === undefined)
  values.set('a', new Error('broken'))
  const outcomes = await Promise.allSettled([cache.get('a'), cache.get('a'), cache.get('a')])
  t.match(
    outcomes,
    Array(3).fill({ status: 'rejected', reason: { message: 'broken' } }),
    'the cached value does not serve instead'
  )
  t.strictSame([detector.failures, counts.stale_serves, counts.loads], [0, 0, 2])
  values.set('a', 2)
  t.equal((await cache.get('a')).value, 2)
})

await t.test('loads of new keys, running or failed, evict no value and do not count in the size', async (t) => {
  const { cache, detector, values, open } = createTestCache({ max: 2 })
  values.set('a', 1).set('b', 2)
  for (const key of ['a', 'b']) await cache.get(key)
  const running = ['c', 'd', 'e'].map(async (key) => await cache.get(key))
  await until(() => open.length === 3)
  t.equal(cache.size, 2)
  values.set('f', databaseDown)
  await t.rejects(cache.get('f'), databaseDown)
  detector.isDown = true
  t.strictSame(await cache.get('a'), { value: 1, isStale: false })
  t.strictSame([cache.peekFresh('a'), cache.peekFresh('b'), cache.size], [1, 2, 2])
  open.forEach((resolve, index) => { resolve(index) })
  t.strictSame((await Promise.all(running)).map(({ value }) => value), [0, 1, 2], 'more loads than entries run at once')
  t.equal(cache.size, 2)
})
