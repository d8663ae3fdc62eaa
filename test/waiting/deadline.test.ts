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
  const started: number[] = []
  const ends: Array<() => void> = []
  const all = [0, 1, 2, 3].map(async (n) => await limitRead(async () => {
    started.push(n)
    await new Promise<void>((resolve) => ends.push(resolve))
    return n
  }))
  for (const expected of [[0, 1], [0, 1, 2], [0, 1, 2, 3]]) {
    await until(() => ends.length === expected.length)
    t.strictSame(started, expected)
    ends[expected.length - 2]?.()
  }
  ends.at(-1)?.()
  t.strictSame(await Promise.all(all), [0, 1, 2, 3])
})

await t.test('a caller that queued too long is refused only if the last read had no database', async (t) => {
  for (const [err, isRefused] of [
    [new DatabaseUnavailable(), true], [new Error('another fault'), false], [undefined, false]
  ] as const) {
    const limitRead = createReadLimiter(1)
    let queuedAt = Infinity
    const first = limitRead(async () => {
      await until(() => isPastReadDeadline(queuedAt))
      if (err !== undefined) throw err
    })
    const second = limitRead(async () => 'read')
    queuedAt = performance.now()
    await (err === undefined ? first : t.rejects(first, err))
    await (isRefused ? t.rejects(second, unavailable) : second)
    t.equal(await limitRead(async () => 'read'), 'read', 'a new caller is not refused')
  }
})

await t.test('assertWithinDeadline throws past the read deadline and in an outage', async (t) => {
  const requestedAt = performance.now()
  assertWithinDeadline(requestedAt, { isDown: false })
  t.throws(() => assertWithinDeadline(requestedAt, { isDown: true }), unavailable)
  await until(() => isPastReadDeadline(requestedAt))
  t.ok(performance.now() - requestedAt >= 1500)
  t.throws(() => assertWithinDeadline(requestedAt, { isDown: false }), unavailable)
})

await t.test('work is awaited until 4.5 seconds after the request, and no longer', async (t) => {
  t.equal(
    await withAnswerDeadline(Promise.resolve(1), ago(1e9)),
    1,
    'a finished result is returned after the deadline, too'
  )
  await t.rejects(withAnswerDeadline(Promise.reject(new Error('of the work')), ago(0)), { message: 'of the work' })
  const requestedAt = ago(4200)
  t.notOk(isPastAnswerDeadline(requestedAt))
  await t.rejects(withAnswerDeadline(new Promise(() => {}), requestedAt), unavailable)
  t.ok(performance.now() - requestedAt > 4499 && performance.now() - requestedAt < 6000)
  await until(() => isPastAnswerDeadline(requestedAt))
  const late = delay(50).then(() => { throw new Error('after the deadline') })
  await t.rejects(withAnswerDeadline(late, ago(1e9)), unavailable, 'a failure after the deadline is not unhandled')
  await delay(100)
})

await t.test('an error of the work is the error of its caller', async (t) => {
  const limitRead = createReadLimiter(1)
  await t.rejects(limitRead(async () => { throw new DatabaseUnavailable() }), unavailable)
  await t.rejects(limitRead(async () => 'read', () => false), unavailable)
  t.equal(await limitRead(async () => 'read'), 'read', 'a read that is no longer needed does not count as a failure')
})
