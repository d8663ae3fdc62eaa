import type { Test } from 'tap'
import t from '../../run/tap.js'
import { createWorld, KEY, LONG, type World } from './cache-world.js'

/** Waits until all pending promise callbacks have run. */
const turn = async () => await new Promise<void>((resolve) => { process.nextTick(resolve) })

/** The maximum count of each event in one order. */
type Most = Partial<Record<'ask' | 'write' | 'strike' | 'clear' | 'lose' | 'listen' | 'confirm' | 'recover' | 'look' | 'end' | 'end newest' | 'away' | 'spoilt', number>>

/** The events that are possible now. */
function possible (world: World, left: Most): [keyof Most, () => void][] {
  const { reads, detector, isBlind } = world
  const blind = reads.find(({ version }) => version === undefined)
  const looked = reads.filter(({ version }) => version !== undefined)
  const [oldest] = looked
  const newest = looked.length > 1 ? looked.at(-1) : undefined
  const all: [keyof Most, boolean, () => void][] = [
    ['ask', true, world.ask],
    ['write', true, world.write],
    ['strike', true, world.invalidate],
    ['clear', true, world.invalidateAll],
    ['lose', !isBlind(), world.lose],
    ['listen', isBlind(), world.listen],
    ['confirm', detector.hasFailure && !detector.isDown, world.confirm],
    ['recover', detector.isDown, world.recover],
    ['look', blind !== undefined, () => { if (blind !== undefined) world.look(blind) }],
    ['end', oldest !== undefined, () => { if (oldest !== undefined) world.end(oldest) }],
    ['end newest', newest !== undefined, () => { if (newest !== undefined) world.end(newest) }],
    ['away', oldest !== undefined, () => { if (oldest !== undefined) world.end(oldest, 'away') }],
    ['spoilt', oldest !== undefined, () => { if (oldest !== undefined) world.end(oldest, 'spoilt') }]
  ]
  return all.filter(([name, can]) => can && (left[name] ?? 0) > 0).map(([name, , happen]) => [name, happen])
}

/** Lets the world come to rest, and records a wrong final state. */
async function rest (world: World): Promise<void> {
  const { reads, now, wrong, cache } = world
  const settle = async () => {
    await turn()
    for (let [read] = reads; read !== undefined; [read] = reads) {
      world.look(read)
      world.end(read)
      await turn()
    }
  }
  world.recover()
  if (world.isBlind()) world.listen()
  else if (now.announced < now.version) world.invalidate()
  await settle()
  if (now.waiting > 0) wrong.push(`${now.waiting} wait for ever`)
  world.ask()
  await settle()
  await turn()
  if (cache.peekFresh(KEY) !== now.version) wrong.push(`${cache.peekFresh(KEY)} stays, but ${now.version} is there`)
}

/** Plays every order of so many events; returns their number, and the orders that broke a guarantee. */
async function everyOrder (length: number, most: Most, blindTtl = LONG): Promise<{ orders: number, wrong: string[] }> {
  const wrong: string[] = []
  let orders = 0
  // The event chosen at each step; counted up like the digits of a number.
  for (const choices: [choice: number, of: number][] = []; ;) {
    const world = createWorld(blindTtl)
    const left = { ...most }
    const story: string[] = []
    for (let step = 0; step < length; step++) {
      const events = possible(world, left)
      if (events.length === 0) break
      const [choice] = choices[step] ??= [0, events.length]
      const [name, happen] = events[choice] ?? never()
      left[name] = (left[name] ?? 0) - 1
      story.push(name)
      happen()
      await turn()
      const held = world.cache.peekFresh(KEY)
      if (held !== undefined && held < world.now.announced) {
        world.wrong.push(`holds ${held}, but ${world.now.announced} was announced`)
      }
      if (!world.now.wasBlind &&
        world.reads.filter(({ isInvalidated }) => !isInvalidated).length > 1) world.wrong.push('reads twice at once')
    }
    await rest(world)
    orders++
    if (world.wrong.length > 0) wrong.push(`${story.join(', ')}: ${world.wrong.join('; ')}`)
    while ((choices.at(-1)?.[0] ?? -1) + 1 === choices.at(-1)?.[1]) choices.pop()
    const last = choices.at(-1)
    if (last === undefined) return { orders, wrong }
    last[0]++
  }
}

function never (): never { throw new Error('an order cannot be played twice') }

async function holds (t: Test, length: number, most: Most, blindTtl?: number): Promise<void> {
  const { orders, wrong } = await everyOrder(length, most, blindTtl)
  t.strictSame(wrong.slice(0, 5), [], `wrong in ${wrong.length} of ${orders} orders`)
  t.ok(orders > 3000, `${orders} orders`)
}

await t.test('the cache keeps its guarantees in any order of loads, writes and invalidations', async (t) => {
  await holds(t, 8, { ask: 3, write: 2, strike: 2, look: 3, end: 3, 'end newest': 1 })
})

await t.test('the cache keeps its guarantees when one invalidation removes everything', async (t) => {
  await holds(t, 7, { ask: 2, write: 2, strike: 1, clear: 1, look: 4, end: 4, 'end newest': 1 })
})

await t.test('the cache keeps its guarantees when loads fail and in an outage', async (t) => {
  await holds(t, 8, { ask: 2, write: 2, strike: 2, look: 4, end: 2, away: 1, spoilt: 1, confirm: 1, recover: 1 })
})

await t.test('the cache keeps its guarantees when the listener is lost and reconnects', async (t) => {
  const most = { ask: 3, write: 2, strike: 1, look: 4, end: 4, 'end newest': 1, lose: 1, listen: 1 }
  for (const blindTtl of [0, LONG]) await holds(t, 7, most, blindTtl)
})
