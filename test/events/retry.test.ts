import t from '../run/tap.js'
import { nextStep } from '../../src/events/retry.js'

const first = { attempts: 1, refusals: 0, is_last: false }
const httpDate = (inSeconds: number) => new Date(Date.now() + inSeconds * 1000).toUTCString()
/** Such as `Sun, 29-Nov-26 20:31:37 GMT`. */
const rfc850Date = (inSeconds: number) => httpDate(inSeconds).replace(/ (\w{3}) 20/, '-$1-')

await t.test('an answer of 2xx is a delivery, also at the last attempt', async (t) => {
  for (const status of [200, 201, 202, 204, 299]) {
    t.strictSame(nextStep(first, { status }), { state: 'delivered' })
    t.strictSame(nextStep({ attempts: 9, refusals: 4, is_last: true }, { status }), { state: 'delivered' })
  }
})

await t.test('410 ends a delivery at once', async (t) => {
  t.strictSame(nextStep(first, { status: 410, retryAfter: '1' }), { state: 'ended' })
})

await t.test('no answer, 5xx and a passing status are retried until the event is too old', async (t) => {
  for (const status of [null, 408, 409, 425, 429, 500, 502, 503, 504, 507, 599, 999]) {
    for (const refusals of [0, 4]) {
      t.match(nextStep({ ...first, attempts: 1000, refusals }, { status }), { state: 'waiting', refusals }, `${status}`)
    }
    t.strictSame(nextStep({ ...first, is_last: true }, { status }), { state: 'ended' })
  }
})

await t.test('the fifth refusal ends a delivery, however many other attempts there were', async (t) => {
  for (const status of [199, 300, 301, 302, 307, 308, 400, 401, 403, 404, 405, 411, 413, 422, 451, 499]) {
    for (const refusals of [0, 1, 2, 3]) {
      const step = nextStep({ ...first, attempts: 100, refusals }, { status })
      t.match(step, { state: 'waiting', refusals: refusals + 1 }, `${status}`)
    }
    t.strictSame(nextStep({ ...first, refusals: 4 }, { status }), { state: 'ended' })
    t.strictSame(nextStep({ ...first, is_last: true }, { status }), { state: 'ended' })
  }
})

await t.test('retry-after sets the delay, between a second and a day; an unreadable one is ignored', async (t) => {
  for (const [retryAfter, least, most] of [
    ['0', 1, 1], ['1', 1, 1], ['120', 120, 120], ['86400', 86_400, 86_400], ['86401', 86_400, 86_400],
    ['9'.repeat(400), 86_400, 86_400],
    [httpDate(-3600), 1, 1], [httpDate(600), 598, 600], [httpDate(1e6), 86_400, 86_400],
    [rfc850Date(600), 598, 600],
    ['', 5, 10], ['-1', 5, 10], ['1.5', 5, 10], [' 7', 5, 10], ['1e3', 5, 10], ['soon', 5, 10], ['no date GMT', 5, 10],
    ['2030-01-01', 5, 10]
  ] as const) {
    const step = nextStep(first, { status: 503, retryAfter })
    t.ok('delay' in step && step.delay >= least && step.delay <= most, retryAfter.slice(0, 40), { step })
  }
  t.match(nextStep(first, { status: 404, retryAfter: '77' }), { delay: 77 })
})
