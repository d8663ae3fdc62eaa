import { interleaved, type Contest, type Cost } from '../measure/rounds.js'
import { compared, microseconds, type Result } from '../report/result.js'
import type { Child } from '../stage/process.js'
import { TENANTS, type Stage } from '../stage/stage.js'

/** Loads in each round; the cache has room for a fourth of them, so no requested entry is cached. */
const LOADS = 4000
const SMALL_CACHE = 1000
const CACHED = 250_000
const HOT = 100
const all = TENANTS.toLocaleString('en')

/** `forTenant()`, uncached and cached. */
export async function loader (stage: Stage): Promise<Result[]> {
  const withGc = ['--expose-gc']
  const small = await stage.start('loader', { CONFIG_CACHE_MAX: SMALL_CACHE }, withGc)
  const uncached = compared(
    '`await forTenant()`, uncached: load, open the secrets, commit',
    await loads(stage, small),
    1.8
  )
  const smallHeap = await small.ask('heap')
  await small.end()

  const ours = await stage.start('loader', {}, withGc)
  const filling = await ours.ask('load', 0, TENANTS)
  const perTenant = (await ours.ask('heap') - smallHeap) / (TENANTS - SMALL_CACHE)
  await ours.ask('fillMap')
  const random = await cached(ours, TENANTS)
  const hot = await cached(ours, HOT)
  await ours.end()
  return [
    {
      ...result(`\`await forTenant()\`, cached, ${all} tenants at random`, random),
      goal: '≥ 1,000,000 a second',
      met: random.ours <= 1
    },
    { ...result(`the same, ${HOT} hot tenants`, hot), goal: '≥ 4,000,000 a second', met: hot.ours <= 1 / 4 },
    uncached,
    { figure: `the same, while an empty cache fills with all ${all}`, ours: microseconds(filling) },
    {
      figure: 'memory for each cached tenant',
      ours: `${Math.round(perTenant)} bytes`,
      goal: '≤ 1,200 bytes',
      met: perTenant <= 1200
    }
  ]
}

/** The costs of loading each tenant, and of only reading its row. */
async function loads ({ server, start }: Stage, loader: Child): Promise<Record<keyof Contest, Cost>> {
  const select = await start('select')
  const operation = (child: Child) => async (round: number) => {
    const before = server.cpu()
    const node = await child.ask('load', round * LOADS, LOADS)
    return { node, postgres: (server.cpu() - before) / LOADS }
  }
  const costs = await interleaved({ floor: operation(select), ours: operation(loader) })
  await select.end()
  return costs
}

async function cached (child: Child, range: number): Promise<Record<'ours' | 'floor', number>> {
  const operation = (task: string) => async () => ({ node: await child.ask(task, CACHED, range), postgres: NaN })
  const { ours, floor } = await interleaved({ floor: operation('mapGet'), ours: operation('forTenant') })
  return { ours: ours.node, floor: floor.node }
}

function result (figure: string, { ours, floor }: Record<'ours' | 'floor', number>): Result {
  return {
    figure,
    ours: `${microseconds(ours)} (${millions(ours)} a second)`,
    floor: `${microseconds(floor)} (${millions(floor)} a second)`,
    ratio: ours / floor
  }
}

const millions = (each: number) => `${(1 / each).toFixed(2)} million`
