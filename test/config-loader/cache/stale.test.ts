import t from '../../run/tap.js'
import { until } from '../../without-database.js'
import { createTestCache, databaseDown } from './test-cache.js'

await t.test('in an outage only values that can be stale are served, marked as stale', async (t) => {
  const { cache, listenerHealth, detector, values, counts } = createTestCache({ ttl: 1, staleIfError: 60_000 })
  const unavailable = { code: 'DATABASE_UNAVAILABLE' }
  values.set('a', 1).set('none', null)
  await Promise.all([cache.get('a'), cache.get('none')])
  for (const key of ['a', 'none', 'new']) values.set(key, databaseDown)
  await until(() => cache.peekFresh('a') === undefined && cache.peekFresh('none') === undefined)

  t.strictSame(await cache.get('a'), { value: 1, isStale: true })
  t.equal(detector.failures, 1, 'the first failed read reports the failure')
  detector.isDown = true
  const { loads } = counts
  t.strictSame(await cache.get('a'), { value: 1, isStale: true })
  await t.rejects(cache.get('none'), unavailable, 'the value cannot be stale')
  await t.rejects(cache.get('new'), unavailable, 'the key was never cached')
  t.equal(counts.loads, loads, 'no read starts in an outage')
  t.equal(counts.stale_serves, 2)

  listenerHealth.lastConfirmedAt = performance.now() + 1000 - 60_000
  t.equal((await cache.get('a')).isStale, true)
  cache.invalidate('a')
  await t.rejects(cache.get('a'), unavailable, 'an invalidated value does not serve')

  detector.isDown = false
  values.set('a', 2).set('none', 3)
  t.strictSame([
    await cache.get('a'), await cache.get('none')
  ], [{ value: 2, isStale: false }, { value: 3, isStale: false }])
})

await t.test('a fresh value that cannot be stale is not served in an outage', async (t) => {
  const { cache, detector, values } = createTestCache()
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
    const { cache, listenerHealth, values } = createTestCache({ ttl: 1, staleIfError })
    values.set('a', 1)
    const asked = Math.floor(performance.now())
    await cache.get('a')
    const loaded = performance.now()
    values.set('a', databaseDown)
    const serves = async () => await cache.get('a').then(({ isStale }) => isStale, () => false)
    await until(() => cache.peekFresh('a') === undefined)
    for (let isServed = staleIfError > 0; isServed; await new Promise(setImmediate)) {
      const before = performance.now()
      isServed = await serves()
      if (isServed && before >= loaded + staleIfError) t.fail('the value serves for too long')
      if (!isServed && performance.now() < asked + staleIfError) t.fail('the value serves for too short a time')
    }
    t.equal(await serves(), false)
    listenerHealth.lastConfirmedAt = performance.now()
    t.equal(await serves(), staleIfError > 0, 'the time counts from the last confirmation')
  }
})
