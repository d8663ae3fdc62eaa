import { readFileSync } from 'node:fs'
import { quantile } from '../bench/measure/rounds.js'

/** The memory of one process over its life. */
export interface Memory {
  /** Median in MiB after the warm-up, and at the end. */
  warm: number
  end: number
}

const EVERY_MS = 500

/** Samples the resident memory of a process until `stop`; a process that has ended has none. */
export function watchMemory (pid: number): { stop: () => Memory } {
  const samples: number[] = []
  const timer = setInterval(() => { samples.push(residentMiB(pid)) }, EVERY_MS)
  return {
    stop () {
      clearInterval(timer)
      const part = (from: number, to: number) =>
        quantile(samples.slice(Math.floor(samples.length * from), Math.ceil(samples.length * to)), 0.5)
      return { warm: part(0.2, 0.4), end: part(0.8, 1) }
    }
  }
}

/** Source: proc(5), `VmRSS` in KiB. Returns NaN once the process has ended. */
function residentMiB (pid: number): number {
  try {
    return Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024
  } catch {
    return NaN
  }
}
