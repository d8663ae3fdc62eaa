import { spawn } from 'node:child_process'
import { EventEmitter, once } from 'node:events'
import type { Test } from 'tap'
import type { LoaderStats } from '../../../src/app.js'
import { childEnv, withoutLimits } from '../../helper.js'
import { modulePath } from '../../run/paths.js'
import type { Observation } from './history.js'

/** A command to a reading instance. */
export interface Command {
  name: 'read' | 'ask' | 'latest' | 'stop' | 'stats'
  questions: string[]
  times: number
  pauseMs: number
}

export type ReadingInstance = Awaited<ReturnType<typeof readingInstance>>

/** Starts the service in its own process, with readers inside that call its loader. */
export async function readingInstance (t: Test, env: Record<string, string>) {
  const child = spawn(process.execPath, [
    ...process.execArgv,
    modulePath('test/config-loader/freshness/reading-instance.ts')
  ], {
    env: childEnv({ NODE_ENV: 'test', LOG_LEVEL: 'fatal', ...withoutLimits, ...env }),
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    serialization: 'advanced'
  })
  const exit = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await exit
  })
  let stderr = ''
  child.stderr?.on('data', (chunk) => { stderr += String(chunk) })
  const replies = new EventEmitter()
  const inbox: EventEmitter = child
  inbox.on('message', ({ id, value }: { id: number, value: unknown }) => { replies.emit(String(id), value) })
  const reply = async (id: number) => await Promise.race([
    once(replies, String(id)),
    exit.then(([code]) => { throw new Error(`the instance has exited (${code}): ${stderr}`) })
  ])

  let commands = 0
  async function send (name: Command['name'], questions: string[] = [], times = 0, pauseMs = 0) {
    const id = ++commands
    child.send({ id, name, questions, times, pauseMs })
    return await reply(id)
  }

  const [origin]: string[] = await reply(0)
  return {
    /** `http://127.0.0.1:<port>` */
    origin: String(origin),

    /** Adds so many readers that ask random questions, each with a pause in ms after an answer. */
    read: async (questions: string[], readers: number, pauseMs: number): Promise<void> => {
      await send('read', questions, readers, pauseMs)
    },

    /** Asks each question so many times at once, and waits for the answers. */
    ask: async (questions: string[], times = 1): Promise<void> => { await send('ask', questions, times) },

    /** The latest answer to each question that was asked since the last `stop`. */
    async latest (): Promise<Observation[]> {
      const [latest]: Observation[][] = await send('latest')
      return latest ?? []
    },

    /** Ends the reading; returns the first and last of each series of equal answers, and one every 50 ms. */
    async stop (): Promise<Observation[]> {
      const [observations]: Observation[][] = await send('stop')
      return observations ?? []
    },

    async stats (): Promise<LoaderStats | undefined> {
      const [stats]: LoaderStats[] = await send('stats')
      return stats
    },

    /** Closes the service and returns the exit code of the process. */
    async close (): Promise<number | null> {
      child.disconnect()
      const [code]: Array<number | null> = await exit
      return code ?? null
    }
  }
}
