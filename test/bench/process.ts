import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { EnvSource } from '../../src/app.js'

/** A process that does what its file gives to `serve`. */
export interface Child {
  /** Asks for one of its tasks; throws when the process ends instead. One question at a time. */
  ask: (task: string, first?: number, second?: number) => Promise<number>
  /** Resolves when it is gone. */
  end: () => Promise<void>
}

/** Starts one of the files under children/; resolves when it can be asked. */
export async function start (name: string, settings: EnvSource, nodeOptions: string[] = []): Promise<Child> {
  const child = spawn(process.execPath, [
    ...process.execArgv,
    ...nodeOptions,
    fileURLToPath(new URL(`children/${name}.ts`, import.meta.url))
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
