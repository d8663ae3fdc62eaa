import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Cluster } from './cluster.js'
import { spawnOptions } from './system-user.js'

/** How often a state is looked at, in milliseconds. */
export const POLL_MS = 20

/** What postmaster.pid says. */
export interface PidFile {
  pid: number
  port: number
  isReady: boolean
  /** Whether that process is this cluster's postmaster; if not, the file was left behind. */
  isLive: boolean
}

/**
 * @param pid a process id
 * @param platform as `process.platform`
 * @returns true when there is such a process; a zombie is none
 */
export function isAlive (pid: number, platform: NodeJS.Platform = process.platform): boolean {
  return /^[^ZX]/.test(stateOf(pid, platform))
}

function stateOf (pid: number, platform: NodeJS.Platform): string {
  if (platform !== 'linux') return spawnSync('ps', ['-o', 'stat=', '-p', String(pid)], { ...spawnOptions({}), encoding: 'utf8' }).stdout.trim()
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2)
  } catch {
    return ''
  }
}

/**
 * Tells a cluster's postmaster from a process that was given its id later.
 *
 * @param pid the process id in postmaster.pid
 * @param cluster whose postmaster it should be
 * @param platform as `process.platform`
 * @returns true when it is
 */
export function isPostmaster (pid: number, { dir, user }: Cluster, platform: NodeJS.Platform = process.platform): boolean {
  if (!isAlive(pid, platform)) return false
  if (platform !== 'linux') {
    return spawnSync('ps', ['-ww', '-o', 'command=', '-p', String(pid)], { ...spawnOptions({}), encoding: 'utf8' }).stdout.includes(`-D ${dir} `)
  }
  // Asked as the cluster's owner, since root in a container may not look into another user's process.
  return spawnSync('test', [`/proc/${pid}/cwd`, '-ef', dir], spawnOptions(user)).status === 0
}

/** Starts, finds and stops the postmaster of one cluster, be it a child of this process or not. */
export class Postmaster {
  readonly #cluster: Cluster
  #child: ChildProcess | undefined
  #childError = ''
  #logStart = 0

  constructor (cluster: Cluster) {
    this.#cluster = cluster
  }

  /** Whether the process last started here is alive. */
  get isChildRunning (): boolean {
    return this.#child?.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** @returns what postmaster.pid says, or undefined when there is none */
  async find (): Promise<PidFile | undefined> {
    const text = await readFile(join(this.#cluster.dir, 'postmaster.pid'), 'utf8').catch((err: NodeJS.ErrnoException) => {
      if (err.code !== 'ENOENT') throw err
    })
    if (text === undefined) return undefined
    const lines = text.split('\n')
    const pid = Number(lines[0])
    const isLive = (this.isChildRunning && pid === this.#child?.pid) || isPostmaster(pid, this.#cluster)
    return { pid, port: Number(lines[3]), isReady: isLive && lines[7]?.trim() === 'ready', isLive }
  }

  /**
   * Starts the postmaster; `find` tells when it is ready, `isChildRunning` whether it has ended, `failure` why.
   *
   * @param port on 127.0.0.1
   * @param stalePid what `find` says of a postmaster.pid that was left behind
   */
  async start (port: number, stalePid = 0): Promise<void> {
    const { dir, user, postgres, logFile } = this.#cluster
    const options = spawnOptions(user)
    const settings = [
      'listen_addresses=127.0.0.1', `port=${port}`, 'unix_socket_directories=', 'log_checkpoints=off',
      // No statement, value or ERROR (whose text may quote a value) may land in the log: FATAL, PANIC and LOG do.
      'log_min_messages=log', 'log_min_error_statement=panic', 'log_error_verbosity=terse'
    ]
    // A file, since PostgreSQL may outlive this process and would die of a broken pipe.
    const log = await open(logFile, 'a', 0o600)
    try {
      this.#logStart = (await log.stat()).size
      this.#childError = ''
      this.#child = spawn(postgres, ['-D', dir, ...settings.flatMap(setting => ['-c', setting])], {
        ...options,
        cwd: dir,
        detached: true,
        stdio: ['ignore', log.fd, log.fd],
        // PostgreSQL overlooks a lock file that names this process, as it does one that names a dead process, and then
        // still makes sure that no orphaned backend uses the files. Deleting postmaster.pid would take that check away.
        env: { ...options.env, PG_GRANDPARENT_PID: String(stalePid) }
      })
      this.#child.on('error', err => { this.#childError = err.message })
      this.#child.unref()
    } finally {
      await log.close()
    }
  }

  /** @returns the last of what PostgreSQL has logged since `start`, at most 2000 bytes */
  async readFailure (): Promise<string> {
    const log = await readFile(this.#cluster.logFile).catch(() => Buffer.alloc(0))
    return `${this.#childError}${log.subarray(Math.max(this.#logStart, log.length - 2000)).toString().trim()}`
  }

  /**
   * Stops the postmaster, whoever started it; resolves when it is gone.
   *
   * @param timeoutMs milliseconds it may take to end its connections and write everything out before it is pressed
   */
  async stop (timeoutMs = 10_000): Promise<void> {
    for (const [signal, ms] of [['SIGINT', timeoutMs], ['SIGQUIT', 6000], ['SIGKILL', Infinity]] as const) {
      const file = await this.find()
      const pid = this.isChildRunning ? this.#child?.pid : file?.isLive === true ? file.pid : undefined
      if (pid === undefined) return
      try {
        process.kill(pid, signal)
      } catch {
        // It is gone meanwhile, or the loop below sees that it is not.
      }
      const end = Date.now() + ms
      while (isAlive(pid) && Date.now() < end) await delay(POLL_MS)
    }
  }
}
