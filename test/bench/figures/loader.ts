import type { Child } from '../process.js'
import { compared, microseconds, type Result } from '../result.js'
import { interleaved } from '../rounds.js'
import { TENANTS, type Stage } from '../stage.js'

/** Loaded in each of the ten rounds, the first included: together, every tenant once. */
const LOADS = TENANTS / 10
const CACHED = 500_000
const HOT = 100

/** `forTenant()`: uncached until each tenant was loaded once, and then from the cache. */
export async function loader ({ server, start }: Stage): Promise<Result[]> {
  const withGc = ['--expose-gc']
  const empty = await heapOf(await start('loader', { CONFIG_CACHE_MAX: 1 }, withGc))
  const [ours, floor] = [await start('loader', {}, withGc), await start('select')]
  const turn = (child: Child) => async (round: number) => {
    const before = server.cpu()
    const node = await child.ask('load', round * LOADS, LOADS)
    return { node, postgres: (server.cpu() - before) / LOADS }
  }
  const uncached = compared('`await forTenant()`, uncached: load, open the secrets, commit', await interleaved({ floor: turn(floor), ours: turn(ours) }), 1.5)
  await floor.end()

  const perTenant = (await ours.ask('heap') - empty) / TENANTS
  const memory: Result = { figure: 'memory for each cached tenant', ours: `${Math.round(perTenant)} bytes`, goal: '≤ 1.5 KiB', met: perTenant <= 1.5 * 1024 }
  await ours.ask('fillMap')
  const random = await cached(ours, TENANTS)
  const hot = await cached(ours, HOT)
  await ours.end()
  return [
    {
      ...result(`\`await forTenant()\`, cached, ${TENANTS.toLocaleString('en')} tenants at random`, random),
      goal: '≤ 2.5 × an awaited `Map.get`, ≥ 1,000,000 a second',
      met: random.ours <= 2.5 * random.floor && random.ours <= 1
    },
    { ...result(`the same, ${HOT} hot tenants`, hot), goal: '≥ 4,000,000 a second', met: hot.ours <= 1 / 4 },
    uncached,
    memory
  ]
}

/** Bytes that a loader uses that has loaded many tenants and kept one. */
async function heapOf (child: Child): Promise<number> {
  await child.ask('load', 0, LOADS)
  const heap = await child.ask('heap')
  await child.end()
  return heap
}

async function cached (child: Child, range: number): Promise<Record<'ours' | 'floor', number>> {
  const turn = (task: string) => async () => ({ node: await child.ask(task, CACHED, range), postgres: NaN })
  const { ours, floor } = await interleaved({ floor: turn('mapGet'), ours: turn('forTenant') })
  return { ours: ours.node, floor: floor.node }
}

function result (figure: string, { ours, floor }: Record<'ours' | 'floor', number>): Result {
  return { figure, ours: `${microseconds(ours)} (${millions(ours)} a second)`, floor: `${microseconds(floor)} (${millions(floor)} a second)`, ratio: ours / floor }
}

const millions = (each: number) => `${(1 / each).toFixed(2)} million`
