import t from '../../run/tap.js'
import { until } from '../../without-database.js'
import { createTestCache, LONG } from './test-cache.js'

await t.test('without the listener an entry serves for the blind TTL after its confirmation', async (t) => {
  const { cache, listenerHealth, values, counts } = createTestCache({ blindTtl: 200 })
  values.set('a', 1)
  const asked = Math.floor(performance.now())
  await cache.get('a')
  const loaded = performance.now()
  listenerHealth.validUntil = performance.now()
  values.set('a', 2)
  for (let isCached = true; isCached; await new Promise(setImmediate)) {
    const before = performance.now()
    isCached = cache.peekFresh('a') !== undefined
    if (isCached && before >= loaded + 200) t.fail('the entry serves for too long')
    if (!isCached && performance.now() < asked + 200) t.fail('the entry serves for too short a time')
  }
  listenerHealth.lastConfirmedAt = performance.now()
  t.equal(cache.peekFresh('a'), 1, 'the entry was valid while the listener was up')
  listenerHealth.lastConfirmedAt = performance.now() - 200
  t.equal(cache.peekFresh('a'), undefined)
  listenerHealth.validUntil = Infinity
  t.equal(cache.peekFresh('a'), 1, 'the entry is still cached')
  listenerHealth.validUntil = -Infinity
  t.strictSame(await cache.get('a'), { value: 2, isStale: false })
  t.equal(counts.loads, 2)
  listenerHealth.lastConfirmedAt = performance.now() - LONG
  t.equal(cache.peekFresh('a'), 2, 'an old confirmation does not shorten the blind TTL')
})

await t.test('without the listener and with a blind TTL of 0, each call is a read', async (t) => {
  const { cache, listenerHealth, values, counts } = createTestCache({ blindTtl: 0 })
  listenerHealth.validUntil = -Infinity
  for (const value of [1, 2, 3]) {
    values.set('a', value)
    t.equal((await cache.get('a')).value, value)
  }
  t.strictSame([counts.hits, counts.loads], [0, 3])
})

await t.test('without the listener no caller joins a read older than the blind TTL', async (t) => {
  const { cache, listenerHealth, open } = createTestCache({ blindTtl: 200 })
  listenerHealth.validUntil = -Infinity
  const begun = performance.now()
  const early = [cache.get('a'), cache.get('a')]
  const beganIn = performance.now() - begun
  await new Promise(setImmediate)
  if (beganIn < 200) t.equal(open.length, 1, 'the second call joins the read that has just started')
  await until(() => performance.now() >= begun + beganIn + 200)
  const late = cache.get('a')
  await until(() => open.length === 2)
  open[1]?.(2)
  t.equal((await late).value, 2)
  open[0]?.(1)
  t.strictSame((await Promise.all(early)).map(({ value }) => value), [1, 1])
  listenerHealth.validUntil = Infinity
  t.equal(cache.peekFresh('a'), 2, 'the later read is cached, whichever ends last')

  cache.invalidateAll()
  const before = cache.get('a')
  const again = performance.now()
  await until(() => performance.now() >= again + 200)
  const joined = cache.get('a')
  await until(() => open.length >= 3)
  t.equal(open.length, 3, 'while the listener is up a call joins an old read')
  open[2]?.(3)
  t.strictSame((await Promise.all([before, joined])).map(({ value }) => value), [3, 3])
})
