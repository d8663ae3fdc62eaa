import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { quantile } from '../bench/measure/rounds.js'

/** The memory of one process over its life. */
export interface Memory {
  /** Median in MiB after the warm-up, and at the end. */
  warm: number
  end: number
}

const EVERY_MS = 5000
/** A collection of garbage takes less. */
const COLLECT_MS = 500

/**
 * The NODE_OPTIONS of a process to watch: it collects garbage on SIGWINCH. Otherwise its memory depends most on when V8
 * last did.
 */
export const watchable = `--import data:text/javascript,${encodeURIComponent(`
  import { setFlagsFromString } from 'node:v8'
  import { runInNewContext } from 'node:vm'
  setFlagsFromString('--expose-gc')
  const collectGarbage = runInNewContext('gc')
  process.on('SIGWINCH', () => { collectGarbage() })
`)}`

/** Samples the resident memory of a `watchable` process after collections of garbage, until `stop`. */
export function watchMemory (pid: number): { stop: () => Promise<Memory> } {
  const samples: number[] = []
  const stopping = new AbortController()
  const sampling = sample()
  // It is awaited only at the end; until then a failure must not end this process.
  sampling.catch(() => {})

  async function sample (): Promise<void> {
    while (!stopping.signal.aborted) {
      process.kill(pid, 'SIGWINCH')
      await delay(COLLECT_MS)
      samples.push(residentMiB(pid))
      await delay(EVERY_MS, undefined, { signal: stopping.signal }).catch(() => {})
    }
  }

  return {
    async stop () {
      stopping.abort()
      await sampling
      const part = (from: number, to: number) =>
        quantile(samples.slice(Math.floor(samples.length * from), Math.ceil(samples.length * to)), 0.5)
      return { warm: part(0.2, 0.4), end: part(0.8, 1) }
    }
  }
}

/** Source: proc(5), `VmRSS` in KiB. */
function residentMiB (pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
}
