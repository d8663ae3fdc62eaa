import { setTimeout as delay } from 'node:timers/promises'
import t from '../run/tap.js'
import { DatabaseUnavailable } from '../../src/errors.js'
import { createReadLimiter } from '../../src/config-loader/read-limiter.js'
import {
  assertWithinDeadline, isPastAnswerDeadline, isPastReadDeadline, withAnswerDeadline
} from '../../src/waiting/deadline.js'
import { until } from '../without-database.js'

const unavailable = { code: 'DATABASE_UNAVAILABLE' }
const ago = (ms: number) => performance.now() - ms

await t.test('the read limiter starts reads in order, up to its limit', async (t) => {
  const limitRead = createReadLimiter(2)
  const begun: number[] = []
  const ends: Array<() => void> = []
  const all = [0, 1, 2, 3].map(async (n) => await limitRead(async () => {
    begun.push(n)
    await new Promise<void>((resolve) => ends.push(resolve))
    return n
  }))
  for (const sees of [[0, 1], [0, 1, 2], [0, 1, 2, 3]]) {
    await until(() => ends.length === sees.length)
    t.strictSame(begun, sees)
    ends[sees.length - 2]?.()
  }
  ends.at(-1)?.()
  t.strictSame(await Promise.all(all), [0, 1, 2, 3])
})

await t.test('a caller that queued too long is refused only if the last read had no database', async (t) => {
  for (const [err, isTurnedAway] of [
    [new DatabaseUnavailable(), true], [new Error('another fault'), false], [undefined, false]
  ] as const) {
    const limitRead = createReadLimiter(1)
    const since = performance.now()
    const first = limitRead(async () => {
      await until(() => isPastReadDeadline(since))
      if (err !== undefined) throw err
    })
    const second = limitRead(async () => 'read')
    await (err === undefined ? first : t.rejects(first, err))
    await (isTurnedAway ? t.rejects(second, unavailable) : second)
    t.equal(await limitRead(async () => 'read'), 'read', 'who comes now has not waited')
  }
})

await t.test('assertWithinDeadline throws past the read deadline and in an outage', async (t) => {
  const since = performance.now()
  assertWithinDeadline(since, { isDown: false })
  t.throws(() => assertWithinDeadline(since, { isDown: true }), unavailable)
  await until(() => isPastReadDeadline(since))
  t.ok(performance.now() - since >= 1500)
  t.throws(() => assertWithinDeadline(since, { isDown: false }), unavailable)
})

await t.test('work is awaited until 4.5 seconds after the request, and no longer', async (t) => {
  t.equal(await withAnswerDeadline(Promise.resolve(1), ago(1e9)), 1, 'what is there is returned at any time')
  await t.rejects(withAnswerDeadline(Promise.reject(new Error('of the work')), ago(0)), { message: 'of the work' })
  const requestedAt = ago(4200)
  t.notOk(isPastAnswerDeadline(requestedAt))
  await t.rejects(withAnswerDeadline(new Promise(() => {}), requestedAt), unavailable)
  t.ok(performance.now() - requestedAt > 4499 && performance.now() - requestedAt < 6000)
  await until(() => isPastAnswerDeadline(requestedAt))
  const late = delay(50).then(() => { throw new Error('after the deadline') })
  await t.rejects(withAnswerDeadline(late, ago(1e9)), unavailable, 'a failure that nobody waits for harms nobody')
  await delay(100)
})

await t.test('an error of the work is the error of its caller', async (t) => {
  const turns = createReadLimiter(1)
  await t.rejects(turns(async () => { throw new DatabaseUnavailable() }), unavailable)
  await t.rejects(turns(async () => 'read', () => false), unavailable)
  t.equal(await turns(async () => 'read'), 'read', 'one that is not needed is no failure')
})
