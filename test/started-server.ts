import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import { startEmbedded } from '../src/database/embedded/embedded.js'
import { childEnv, until } from './helper.js'
import { modulePath } from './run/paths.js'

/** A new working directory; when the test ends, the PostgreSQL on its `.data` is stopped. */
export function workDir (t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'server-'))
  chmodSync(dir, 0o755)
  t.teardown(async () => {
    const files = join(dir, '.data/postgres')
    if (existsSync(files)) {
      await (await startEmbedded(join(dir, '.data'))).stop()
      rmSync(realpathSync(files), { recursive: true })
    }
    rmSync(dir, { recursive: true })
  })
  return dir
}

export interface Server {
  child: ChildProcess
  out: () => string
  err: () => string
  /** Waits until it listens and returns its origin; throws when it ends instead. */
  origin: () => Promise<string>
  /** Its exit code and signal. */
  ended: Promise<unknown[]>
}

/** Starts the service in a process of its own. */
export function start (
  t: Test,
  cwd: string,
  env: Record<string, string> = {},
  nodeArgs: string[] = []
): Server {
  const child = spawn(
    process.execPath,
    [...process.execArgv, ...nodeArgs, modulePath('src/server.ts')],
    { cwd, env: childEnv({ PORT: '0', ...env }), stdio: ['ignore', 'pipe', 'pipe'] }
  )
  t.teardown(() => { child.kill('SIGKILL') })
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk) => { out += String(chunk) })
  child.stderr.on('data', (chunk) => { err += String(chunk) })
  const ended = once(child, 'close')
  const origin = async () => {
    let found: string | undefined
    await until(() => {
      found = /Server listening at (http:[^"]+)/.exec(out)?.[1]
      return found !== undefined || child.exitCode !== null
    })
    if (found === undefined) throw new Error(`it ended: ${err}`)
    return found
  }
  return { child, out: () => out, err: () => err, origin, ended }
}
