import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { freePort } from '../fixtures/free-port.js'
import { childEnv, withoutLimits } from '../helper.js'

/** A printed line of a command, and its time in milliseconds since the start. */
export interface Line { ms: number, text: string }

/** Runs a command of a build to its end. Throws unless it ends with 0. */
export async function runCommand (
  dir: string,
  file: string,
  env: Record<string, string>,
  onLine: (line: Line) => void = () => {}
): Promise<number> {
  const began = performance.now()
  const child = spawn(process.execPath, [join(dir, 'dist/cli', file)], { cwd: dir, env: childEnv(env) })
  let printed = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (data) => {
      printed += String(data)
      for (const text of String(data).trim().split('\n')) onLine({ ms: performance.now() - began, text })
    })
  }
  const [code] = await once(child, 'close')
  if (code !== 0) throw new Error(`${file} of ${dir} ended with ${code}: ${printed}`)
  return performance.now() - began
}

/** A service of a build, in a new process. */
export interface Service {
  origin: string
  pid: number
  /** Ends it with SIGTERM, or as given; resolves when it has ended. Does nothing if it has ended already. */
  stop: (signal?: NodeJS.Signals) => Promise<void>
}

/** Starts the service of a build, on a free port unless one is given, and waits until it is ready. */
export async function startService (dir: string, env: Record<string, string>, ownPort?: number): Promise<Service> {
  const port = ownPort ?? await freePort()
  const origin = `http://127.0.0.1:${port}`
  const child = spawn(process.execPath, [join(dir, 'dist/server.js')], {
    cwd: dir,
    env: childEnv({ ...withoutLimits, ...env, HOST: '127.0.0.1', PORT: String(port) }),
    stdio: ['ignore', 'ignore', 'inherit']
  })
  const exit = once(child, 'exit')
  const isReady = async () => await fetch(`${origin}/health/ready`).then(({ ok }) => ok, () => false)
  while (!await isReady()) {
    if (child.exitCode !== null) throw new Error(`the service of ${dir} ended with ${child.exitCode}`)
    await delay(50)
  }
  return {
    origin,
    pid: Number(child.pid),
    async stop (signal = 'SIGTERM') {
      child.kill(signal)
      await exit
    }
  }
}
