import t from '../run/tap.js'
import { createRefreshed } from '../../src/metrics/refreshed.js'

const HOUR_MS = 3_600_000

/** A value that `answers` give one after the other, and how often it was read and reported. */
function refreshed (answers: Array<() => Promise<string>>, { periodMs = HOUR_MS, waitMs = HOUR_MS } = {}) {
  const seen = { reads: 0, reports: [] as unknown[] }
  const latest = createRefreshed({
    periodMs,
    waitMs,
    read: async () => await (answers[seen.reads++] ?? (async () => 'one too many'))(),
    report: (err) => { seen.reports.push(err) }
  })
  return { latest, seen }
}

const gives = (value: string) => async () => value
const fault = new Error('away')
const fails = async () => { throw fault }

await t.test('however many callers there are, one read serves them for a period', async (t) => {
  const { latest, seen } = refreshed([gives('first')])
  t.strictSame(await Promise.all(Array.from({ length: 50 }, latest)), Array(50).fill('first'))
  t.equal(await latest(), 'first')
  t.equal(seen.reads, 1)
})

await t.test('after the period it reads again', async (t) => {
  const { latest, seen } = refreshed([gives('first'), gives('second')], { periodMs: 0 })
  t.strictSame([await latest(), await latest()], ['first', 'second'])
  t.equal(seen.reads, 2)
})

await t.test('a failure leaves no value, and only the first of several is reported', async (t) => {
  const { latest, seen } = refreshed([gives('first'), fails, fails, gives('second'), fails], { periodMs: 0 })
  const values = []
  for (let i = 0; i < 5; i++) values.push(await latest())
  t.strictSame(values, ['first', undefined, undefined, 'second', undefined])
  t.strictSame(seen.reports, [fault, fault])
})

await t.test('after a failure the next read is not due at once', async (t) => {
  const { latest, seen } = refreshed([fails, gives('second')])
  t.strictSame([await latest(), await latest()], [undefined, undefined])
  t.equal(seen.reads, 1)
})

await t.test('a caller waits for a slow read only so long, then gets the value before', async (t) => {
  let resolve = (_value: string) => {}
  const promise = new Promise<string>((_resolve) => { resolve = _resolve })
  const { latest, seen } = refreshed([gives('first'), async () => await promise], { periodMs: 0, waitMs: 20 })
  t.equal(await latest(), 'first')
  t.strictSame(await Promise.all([latest(), latest()]), ['first', 'first'])
  t.equal(await latest(), 'first')
  t.equal(seen.reads, 2, 'the slow read goes on')
  resolve('second')
  t.equal(await latest(), 'second')
})
