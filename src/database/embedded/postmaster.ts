import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Cluster } from './cluster.js'
import { spawnOptions } from './system-user.js'

export const POLL_MS = 20

/** The content of postmaster.pid. */
export interface PidFile {
  pid: number
  port: number
  isReady: boolean
  /** Whether that process is this cluster's postmaster; false when the file is stale. */
  isLive: boolean
}

/** Whether a process runs; a zombie does not. */
export function isAlive (pid: number, platform: NodeJS.Platform = process.platform): boolean {
  return /^[^ZX]/.test(stateOf(pid, platform))
}

function stateOf (pid: number, platform: NodeJS.Platform): string {
  if (platform !== 'linux') return runPs('-o', 'stat=', '-p', String(pid)).trim()
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2)
  } catch {
    return ''
  }
}

function runPs (...args: string[]): string {
  return spawnSync('ps', args, { ...spawnOptions({}), encoding: 'utf8' }).stdout
}

/** Whether a process is the cluster's postmaster, and not another process that got its id later. */
export function isPostmaster (
  pid: number, { dir, user }: Pick<Cluster, 'dir' | 'user'>, platform: NodeJS.Platform = process.platform
): boolean {
  if (!isAlive(pid, platform)) return false
  if (platform !== 'linux') return runPs('-ww', '-o', 'command=', '-p', String(pid)).includes(`-D ${dir} `)
  // Runs as the cluster's owner, since root in a container may not read another user's process.
  return spawnSync('test', [`/proc/${pid}/cwd`, '-ef', dir], spawnOptions(user)).status === 0
}

/**
 * Reads postmaster.pid; undefined when the file does not exist.
 *
 * @param childPid the process id of a postmaster that this process started and that runs
 */
export async function readPidFile (
  cluster: Pick<Cluster, 'dir' | 'user'>, childPid?: number
): Promise<PidFile | undefined> {
  const path = join(cluster.dir, 'postmaster.pid')
  const text = await readFile(path, 'utf8').catch((err: NodeJS.ErrnoException) => {
    if (err.code !== 'ENOENT') throw err
  })
  if (text === undefined) return undefined
  const lines = text.split('\n')
  const pid = Number(lines[0])
  const isLive = pid === childPid || isPostmaster(pid, cluster)
  return { pid, port: Number(lines[3]), isReady: isLive && lines[7]?.trim() === 'ready', isLive }
}

/** Starts, finds and stops the postmaster of one cluster, also one that is no child of this process. */
export class Postmaster {
  readonly #cluster: Cluster
  #child: ChildProcess | undefined
  #childError = ''
  #logStart = 0

  constructor (cluster: Cluster) {
    this.#cluster = cluster
  }

  /** Whether the process of the last `start` is alive. */
  get isChildRunning (): boolean {
    return this.#child?.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** Reads postmaster.pid; undefined when the file does not exist. */
  async find (): Promise<PidFile | undefined> {
    return await readPidFile(this.#cluster, this.isChildRunning ? this.#child?.pid : undefined)
  }

  /**
   * Starts the postmaster, and does not wait: `find` returns whether it is ready, `readFailure` why it has ended.
   *
   * @param port on 127.0.0.1
   * @param stalePid the process id in a stale postmaster.pid
   */
  async start (port: number, stalePid = 0): Promise<void> {
    const { dir, user, postgres, logFile } = this.#cluster
    const options = spawnOptions(user)
    const settings = [
      'listen_addresses=127.0.0.1', `port=${port}`, 'unix_socket_directories=', 'log_checkpoints=off',
      // The log holds FATAL, PANIC and LOG. An ERROR may quote a value, and a statement may hold one.
      'log_min_messages=log', 'log_min_error_statement=panic', 'log_error_verbosity=terse'
    ]
    // PostgreSQL may outlive this process, and a broken pipe would end it; a file does not.
    const log = await open(logFile, 'a', 0o600)
    try {
      this.#logStart = (await log.stat()).size
      this.#childError = ''
      this.#child = spawn(postgres, ['-D', dir, ...settings.flatMap((setting) => ['-c', setting])], {
        ...options,
        cwd: dir,
        detached: true,
        stdio: ['ignore', log.fd, log.fd],
        // PostgreSQL ignores a lock file with this id, as one of a dead process, and then checks for orphaned backends
        // on the files. Without postmaster.pid it would skip that check.
        env: { ...options.env, PG_GRANDPARENT_PID: String(stalePid) }
      })
      this.#child.on('error', (err) => { this.#childError = err.message })
      this.#child.unref()
    } finally {
      await log.close()
    }
  }

  /** Returns the end of PostgreSQL's log since `start`, at most 2000 bytes. */
  async readFailure (): Promise<string> {
    const log = await readFile(this.#cluster.logFile).catch(() => Buffer.alloc(0))
    return `${this.#childError}${log.subarray(Math.max(this.#logStart, log.length - 2000)).toString().trim()}`
  }

  /**
   * Stops the postmaster, also one that another process started; resolves when it has ended.
   *
   * @param timeoutMs the time for a fast shutdown (SIGINT); an immediate one (SIGQUIT) follows, then SIGKILL
   */
  async stop (timeoutMs = 10_000): Promise<void> {
    for (const [signal, ms] of [['SIGINT', timeoutMs], ['SIGQUIT', 6000], ['SIGKILL', Infinity]] as const) {
      const file = await this.find()
      const pid = this.isChildRunning ? this.#child?.pid : file?.isLive === true ? file.pid : undefined
      if (pid === undefined) return
      try {
        process.kill(pid, signal)
      } catch {
        // The process has ended, or the loop below finds it alive.
      }
      const end = Date.now() + ms
      while (isAlive(pid) && Date.now() < end) await delay(POLL_MS)
    }
  }
}
