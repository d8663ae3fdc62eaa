import type { EnvSource } from '../../../src/app.js'

/**
 * What a child of the benchmark does when asked, by name. It takes numbers and returns one; times are in microseconds.
 */
export type Tasks = Record<string, (first: number, second: number) => number | Promise<number>>

/** The settings of the service under test; the floors use the same database and the same secret. */
export const settings: EnvSource & Record<'DATABASE_URL' | 'JWT_SECRET', string> = JSON.parse(
  process.env['BENCH_SETTINGS'] ?? '{}'
)

/** CPU time that this process has used so far, all its threads. */
export function cpu (): number {
  const { user, system } = process.cpuUsage()
  return user + system
}

/** CPU time that each of `count` operations took. */
export async function perOne (count: number, work: () => Promise<void>): Promise<number> {
  const before = cpu()
  await work()
  return (cpu() - before) / count
}

/** In microseconds: a write that is not seen within it counts as never seen. */
export const PATIENCE = 1_000_000

/** Answers what the parent asks, one question at a time; ends with it. */
export function serve (tasks: Tasks): void {
  process.on('message', async (question: [
    task: string,
    first: number,
    second: number
  ]) => { await answer(...question) })
  process.on('disconnect', () => process.exit())
  process.send?.(0)

  async function answer (task: string, first: number, second: number): Promise<void> {
    // A parent that was interrupted is not there to hear it.
    process.send?.(await tasks[task]?.(first, second), undefined, undefined, () => {})
  }
}
