import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { EnvSource } from '../../../src/app.js'

/** A process that executes the tasks that its file passes to `serve`. */
export interface Child {
  /** Executes one of its tasks; throws if the process ends before. One task at a time. */
  ask: (task: string, first?: number, second?: number) => Promise<number>
  /** Ends the process, and resolves when it has ended. */
  end: () => Promise<void>
}

/** Starts one of the files under children/; resolves when it accepts tasks. */
export async function start (name: string, settings: EnvSource, nodeOptions: string[] = []): Promise<Child> {
  const child = spawn(process.execPath, [
    ...process.execArgv,
    ...nodeOptions,
    fileURLToPath(new URL(`../children/${name}.ts`, import.meta.url))
  ], {
    env: { ...process.env, BENCH_SETTINGS: JSON.stringify(settings) },
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    serialization: 'advanced'
  })
  const exit = once(child, 'exit')
  const gone = exit.then(() => { throw new Error(`the process ${name} has ended`) })
  gone.catch(() => {})
  const answer = async (): Promise<number> => (await Promise.race([once(child, 'message'), gone]))[0]
  await answer()
  return {
    async ask (task, ...numbers) {
      child.send([task, ...numbers])
      return await answer()
    },
    async end () {
      if (child.connected) child.disconnect()
      await exit
    }
  }
}
