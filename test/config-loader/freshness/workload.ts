import type { Test } from 'tap'
import type { Observation } from './history.js'
import { createWriter, type Writers } from './writers.js'
import type { ReadingInstance } from './reading.js'

/** `t0`, `t1` … */
export const ids = (letter: string, count: number) => Array.from({ length: count }, (_, i) => `${letter}${i}`)

/** So many tenants with one number each and shared accounts, and every question about them. */
export function populationOf (count: number) {
  const [tenants, numbers, accounts] = [ids('t', count), ids('n', count), ids('a', count / 4)]
  const rows = tenants.map((tenant, i) => [
    tenant,
    { version: 0, isActive: true, number: `n${i}`, account: `a${i % accounts.length}` }
  ] as const)
  const questions = Object.entries({
    tenant: tenants,
    number: numbers,
    account: accounts
  }).flatMap(([kind, ids]) => ids.map((id) => `${kind}:${id}`))
  return { tenants, accounts, rows, questions }
}

/** Stores the rows and creates writers; each has its own share of the tenants. */
export async function createCrew (
  t: Test,
  writers: Writers,
  count: number,
  { tenants, accounts, rows }: ReturnType<typeof populationOf>
) {
  const connections = await Promise.all(Array.from({ length: count }, async () => await writers.connect(t)))
  const [first] = connections
  if (first !== undefined) await writers.bySql(first, ...rows)
  return connections.map((sql, index) => createWriter(
    writers,
    sql,
    tenants.filter((_, i) => i % count === index),
    accounts
  ))
}

/** Lets all writers write until `meanwhile` ends. */
export async function writeDuring (crew: Array<() => Promise<void>>, meanwhile: () => Promise<unknown>): Promise<void> {
  const ending = new AbortController()
  const writing = Promise.all(crew.map(async (next) => { while (!ending.signal.aborted) await next() }))
  await Promise.race([meanwhile(), writing]).finally(() => { ending.abort() })
  await writing
}

/** Ends the reading. Asserts that each answer is one tenant at one version, and not older than `bound` ms. */
export async function assertFresh (
  t: Test,
  { history }: Writers,
  instances: ReadingInstance[],
  bound: number
): Promise<void> {
  const observations = (await Promise.all(instances.map(async (instance) => await instance.stop()))).flat()
  const answers = observations.filter(({ answer }) => answer !== '!DATABASE_UNAVAILABLE')
  const { ages, wrong } = history.evaluate(answers)
  const old = ages.filter((age) => age > 0).sort((a, b) => a - b)
  const percentile = (share: number) => Math.round(old[Math.floor((old.length - 1) * share)] ?? 0)
  t.comment(
    `${history.size} writes, ${kinds(answers)}; ${old.length} were old: p50 ${percentile(0.5)} ms, ` +
      `p99 ${percentile(0.99)} ms, at most ${percentile(1)} ms`
  )
  // On a busy machine a few calls may time out while they wait for a connection.
  t.ok(observations.length - answers.length < observations.length / 100, 'fewer than 1 % of the calls are refused')
  t.same(wrong.slice(0, 3), [], 'each answer was true at some time')
  t.ok(percentile(1) < bound, `no answer is older than ${bound} ms`)
}

function kinds (observations: Observation[]): string {
  const counts = new Map<string, number>()
  for (const { question, answer } of observations) {
    const kind = `${question.split(':')[0]} ${answer === 'nobody' ? 'without' : 'with'} a row`
    counts.set(kind, (counts.get(kind) ?? 0) + 1)
  }
  return [...counts].map(([kind, count]) => `${count} × ${kind}`).sort().join(', ')
}
