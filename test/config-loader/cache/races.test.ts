import type { Test } from 'tap'
import t from '../../run/tap.js'
import { createCacheModel, KEY, type CacheModel } from './cache-model.js'
import { LONG } from './test-cache.js'

/** Waits until all pending promise callbacks have run. */
const flushPromises = async () => await new Promise<void>((resolve) => { process.nextTick(resolve) })

type Event =
  'ask' | 'write' | 'invalidate' | 'invalidate all' | 'disconnect' | 'reconnect' | 'confirm outage' | 'recover' |
  'read row' | 'end' | 'end newest' | 'fail unavailable' | 'fail unreadable'

/** The maximum count of each event in one order. */
type Most = Partial<Record<Event, number>>

/** The events that are possible now. */
function possible (model: CacheModel, left: Most): [Event, () => void][] {
  const { reads, detector, isListenerDown } = model
  const unseen = reads.find(({ version }) => version === undefined)
  const seen = reads.filter(({ version }) => version !== undefined)
  const [oldest] = seen
  const newest = seen.length > 1 ? seen.at(-1) : undefined
  const all: [Event, boolean, () => void][] = [
    ['ask', true, model.ask],
    ['write', true, model.write],
    ['invalidate', true, model.invalidate],
    ['invalidate all', true, model.invalidateAll],
    ['disconnect', !isListenerDown(), model.disconnect],
    ['reconnect', isListenerDown(), model.reconnect],
    ['confirm outage', detector.hasFailure && !detector.isDown, model.confirmOutage],
    ['recover', detector.isDown, model.recover],
    ['read row', unseen !== undefined, () => { if (unseen !== undefined) model.readRow(unseen) }],
    ['end', oldest !== undefined, () => { if (oldest !== undefined) model.end(oldest) }],
    ['end newest', newest !== undefined, () => { if (newest !== undefined) model.end(newest) }],
    [
      'fail unavailable',
      oldest !== undefined,
      () => { if (oldest !== undefined) model.end(oldest, 'unavailable') }
    ],
    ['fail unreadable', oldest !== undefined, () => { if (oldest !== undefined) model.end(oldest, 'unreadable') }]
  ]
  return all.filter(([name, can]) => can && (left[name] ?? 0) > 0).map(([name, , happen]) => [name, happen])
}

/** Ends all reads, and records a wrong final state. */
async function finish (model: CacheModel): Promise<void> {
  const { reads, now, wrong, cache } = model
  const settle = async () => {
    await flushPromises()
    for (let [read] = reads; read !== undefined; [read] = reads) {
      model.readRow(read)
      model.end(read)
      await flushPromises()
    }
  }
  model.recover()
  if (model.isListenerDown()) model.reconnect()
  else if (now.announced < now.version) model.invalidate()
  await settle()
  if (now.waiting > 0) wrong.push(`${now.waiting} calls never end`)
  model.ask()
  await settle()
  await flushPromises()
  const cached = cache.peekFresh(KEY)
  if (cached !== now.version) wrong.push(`${cached} stays cached, but ${now.version} is stored`)
}

/** Executes every order of so many events; returns their number, and the orders that broke a guarantee. */
async function everyOrder (length: number, most: Most, blindTtl = LONG): Promise<{ orders: number, wrong: string[] }> {
  const wrong: string[] = []
  let orders = 0
  // The event chosen at each step; counted up like the digits of a number.
  for (const choices: [choice: number, of: number][] = []; ;) {
    const model = createCacheModel(blindTtl)
    const left = { ...most }
    const names: string[] = []
    for (let step = 0; step < length; step++) {
      const events = possible(model, left)
      if (events.length === 0) break
      const [choice] = choices[step] ??= [0, events.length]
      const [name, happen] = events[choice] ?? never()
      left[name] = (left[name] ?? 0) - 1
      names.push(name)
      happen()
      await flushPromises()
      const cached = model.cache.peekFresh(KEY)
      if (cached !== undefined && cached < model.now.announced) {
        model.wrong.push(`caches ${cached}, but ${model.now.announced} was announced`)
      }
      const valid = model.reads.filter(({ isInvalidated }) => !isInvalidated)
      if (!model.now.wasListenerDown && valid.length > 1) model.wrong.push('reads twice at once')
    }
    await finish(model)
    orders++
    if (model.wrong.length > 0) wrong.push(`${names.join(', ')}: ${model.wrong.join('; ')}`)
    while ((choices.at(-1)?.[0] ?? -1) + 1 === choices.at(-1)?.[1]) choices.pop()
    const last = choices.at(-1)
    if (last === undefined) return { orders, wrong }
    last[0]++
  }
}

function never (): never { throw new Error('an order cannot be repeated') }

async function assertGuarantees (t: Test, length: number, most: Most, blindTtl?: number): Promise<void> {
  const { orders, wrong } = await everyOrder(length, most, blindTtl)
  t.strictSame(wrong.slice(0, 5), [], `wrong in ${wrong.length} of ${orders} orders`)
  t.ok(orders > 3000, `${orders} orders`)
}

await t.test('the cache keeps its guarantees in any order of loads, writes and invalidations', async (t) => {
  await assertGuarantees(t, 8, { ask: 3, write: 2, invalidate: 2, 'read row': 3, end: 3, 'end newest': 1 })
})

await t.test('the cache keeps its guarantees when one invalidation removes everything', async (t) => {
  await assertGuarantees(t, 7, {
    ask: 2,
    write: 2,
    invalidate: 1,
    'invalidate all': 1,
    'read row': 4,
    end: 4,
    'end newest': 1
  })
})

await t.test('the cache keeps its guarantees when loads fail and in an outage', async (t) => {
  await assertGuarantees(t, 8, {
    ask: 2,
    write: 2,
    invalidate: 2,
    'read row': 4,
    end: 2,
    'fail unavailable': 1,
    'fail unreadable': 1,
    'confirm outage': 1,
    recover: 1
  })
})

await t.test('the cache keeps its guarantees when the listener is lost and reconnects', async (t) => {
  const most = { ask: 3, write: 2, invalidate: 1, 'read row': 4, end: 4, 'end newest': 1, disconnect: 1, reconnect: 1 }
  for (const blindTtl of [0, LONG]) await assertGuarantees(t, 7, most, blindTtl)
})
