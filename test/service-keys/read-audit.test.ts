import t from '../run/tap.js'
import type { Origin } from '../../src/audit/audit.js'
import { createReadAudit, type SecretRead } from '../../src/service-keys/read-audit.js'

const HOUR = 3_600_000
const origin = { address: '192.0.2.1', request_id: 'r1' }
const read = { keyId: 'key', tenantId: 'acme' }

/** An audit whose records are kept, at a clock of its own; `fail` makes records fail. */
function audit () {
  const records: Array<Omit<SecretRead, 'originOf'> & { count: number, origin: Origin | null }> = []
  const state = { now: 0, fail: false }
  const reads = createReadAudit(async (keyId, tenantId, count, origin) => {
    records.push({ keyId, tenantId, count, origin })
    if (state.fail) throw new Error('not stored')
  }, () => state.now)
  const add = (pair: Omit<SecretRead, 'originOf'>, from: Origin = origin) =>
    reads.add({ ...pair, originOf: () => from })
  return { ...reads, add, state, taken: () => records.splice(0) }
}

await t.test('the first read of a pair is recorded, and then one an hour with the count', async (t) => {
  const { add, state, taken } = audit()
  await add(read)
  t.strictSame(taken(), [{ ...read, origin, count: 1 }])
  for (let i = 0; i < 9; i++) t.equal(add(read), undefined, 'the answer need not wait')
  state.now = HOUR - 1
  t.equal(add(read), undefined)
  t.strictSame(taken(), [])
  state.now = HOUR
  const later = { ...origin, request_id: 'r2' }
  await add(read, later)
  t.strictSame(taken(), [{ ...read, origin: later, count: 11 }])
  t.equal(add(read), undefined)
})

await t.test('each key, each tenant and what is of no tenant have records of their own', async (t) => {
  const { add, taken } = audit()
  for (const tenantId of ['acme', 'shop', '']) {
    for (const keyId of ['key', 'other']) await add({ ...read, keyId, tenantId })
  }
  t.equal(taken().length, 6)
})

await t.test('reads wait for the record that is being stored, and fail with it', async (t) => {
  const { add, state, taken } = audit()
  state.fail = true
  const outcomes = await Promise.allSettled([add(read), add(read), add(read)])
  t.strictSame(outcomes.map(({ status }) => status), ['rejected', 'rejected', 'rejected'])
  t.strictSame(taken().map(({ count }) => count), [1])
  state.fail = false
  await add(read)
  t.strictSame(taken(), [{ ...read, origin, count: 1 }], 'the next read tries again')

  t.equal(add(read), undefined)
  state.now = HOUR
  state.fail = true
  await t.rejects(async () => await add(read), 'not stored')
  state.fail = false
  await add(read)
  t.strictSame(taken().map(({ count }) => count), [2, 2], 'the count of the hour before is kept')
})

await t.test('what is no longer read is recorded by the sweep, and the rest at the stop', async (t) => {
  const { add, state, stop, sweep, taken } = audit()
  const once = { ...read, tenantId: 'once' }
  for (const one of [read, read, read, once]) await add(one)
  taken()
  await sweep()
  t.strictSame(taken(), [], 'the hour is not over')
  state.now = HOUR
  const later = { ...read, tenantId: 'later' }
  for (let i = 0; i < 3; i++) await add(later)
  taken()
  await sweep()
  t.strictSame(taken(), [{ ...read, origin: null, count: 2 }])
  await stop()
  t.strictSame(taken(), [{ ...later, origin: null, count: 2 }])
})

await t.test('the count of a dropped pair is recorded; a failure of that is no failure', async (t) => {
  const { add, state, stop, taken } = audit()
  for (const one of [read, read]) await add(one)
  state.fail = true
  for (let i = 0; i < 50_000; i++) await Promise.resolve(add({ ...read, tenantId: `t${i}` })).catch(() => {})
  t.strictSame(taken().filter(({ origin }) => origin === null), [])
  state.fail = false
  for (let i = 0; i < 50_000; i++) await add({ ...read, tenantId: `t${i}` })
  t.strictSame(taken().filter(({ origin }) => origin === null), [{ ...read, origin: null, count: 1 }])
  t.equal(add({ ...read, tenantId: 't7' }), undefined)
  state.fail = true
  await stop()
  t.strictSame(taken(), [{ ...read, tenantId: 't7', origin: null, count: 1 }])
})
