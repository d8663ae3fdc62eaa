import type { EnvSource } from '../../../src/app.js'

/**
 * The tasks of a child of the benchmark, by name. Each receives numbers and returns one; times are in microseconds.
 */
export type Tasks = Record<string, (first: number, second: number) => number | Promise<number>>

/** The settings of the service under test; the floors use the same database and the same secret. */
export const settings: EnvSource & Record<'DATABASE_URL' | 'JWT_SECRET', string> = JSON.parse(
  process.env['BENCH_SETTINGS'] ?? '{}'
)

/** CPU time of this process so far, of all its threads. */
export function cpu (): number {
  const { user, system } = process.cpuUsage()
  return user + system
}

/** CPU time of each of `count` operations. */
export async function perOne (count: number, work: () => Promise<void>): Promise<number> {
  const before = cpu()
  await work()
  return (cpu() - before) / count
}

/** After this time, in microseconds, a write counts as never seen. */
export const TIMEOUT_US = 1_000_000

/** Executes the parent's tasks, one at a time; ends with the parent. */
export function serve (tasks: Tasks): void {
  process.on('message', async (message: [task: string, first: number, second: number]) => { await execute(...message) })
  process.on('disconnect', () => process.exit())
  process.send?.(0)

  async function execute (task: string, first: number, second: number): Promise<void> {
    // An interrupted parent no longer receives it.
    process.send?.(await tasks[task]?.(first, second), undefined, undefined, () => {})
  }
}
