import { randomInt } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { quantile } from '../bench/measure/rounds.js'
import { send } from '../upgrade/traffic.js'
import type { Step, Tenant } from './tenants.js'

/** A time in which some failures are expected (ms of `performance.now()`). */
interface Window { from: number, to: number }

/** The failures that each window allows. */
export interface Windows {
  /** An instance is killed: requests that were in flight may fail. */
  kill: Window
  /** PostgreSQL restarts: requests may get DATABASE_UNAVAILABLE or AUDIT_UNAVAILABLE. */
  restart: Window
}

/** The figures of a load. */
export interface LoadResult {
  sent: number
  rate: number
  p50: number
  p99: number
  longest: number
  byStatus: Record<string, number>
  killed: number
  unavailable: number
  faults: string[]
}

/** The share of the requests that belong to no tenant of the model. */
const OTHERS = 0.2
/** A machine that is too slow for the rate sends fewer requests, and is not measured by its queue. */
const MAX_IN_FLIGHT = 50

/** Sends so many requests a second until `isOver`; fewer while MAX_IN_FLIGHT are not answered. */
export async function runLoad (
  origin: string, perSecond: number, tenants: Tenant[], other: () => Step, windows: Windows, isOver: () => boolean
): Promise<LoadResult> {
  const idle = [...tenants]
  const times: number[] = []
  const faults: string[] = []
  const byStatus: Record<string, number> = {}
  const allowed = { killed: 0, unavailable: 0 }
  const inFlight = new Set<Promise<void>>()
  const began = performance.now()
  let sent = 0

  async function execute ({ call, judge, lose }: Step, name: string): Promise<void> {
    const from = performance.now()
    const reply = await send(origin, call)
    const to = performance.now()
    times.push(to - from)
    byStatus[reply.status] = (byStatus[reply.status] ?? 0) + 1
    const overlaps = (window: Window) => from <= window.to && to >= window.from
    const fail = (text: string) => {
      faults.push(`${Math.round((from - began) / 1000)} s: ${call.method} ${call.path} of ${name}: ${text}`)
    }
    if (reply.status > 0 && reply.status < 500) {
      const fault = judge(reply)
      if (fault !== undefined) fail(fault)
      return
    }
    lose()
    if (reply.status === 503 && /"(DATABASE|AUDIT)_UNAVAILABLE"/.test(reply.text) && overlaps(windows.restart)) {
      allowed.unavailable++
    } else if (overlaps(windows.kill) && !reply.text.includes('"code"')) {
      // HAProxy's own answer: the service was gone before its answer.
      allowed.killed++
    } else fail(`${reply.status} ${reply.text.slice(0, 200)}`)
  }

  async function executeNext (): Promise<void> {
    if (Math.random() < OTHERS) return await execute(other(), 'nobody')
    const [tenant] = idle.splice(randomInt(Math.max(1, idle.length)), 1)
    if (tenant === undefined) throw new Error('no tenant is idle')
    await execute(tenant.next(), tenant.name)
    idle.push(tenant)
  }

  while (!isOver()) {
    const due = Math.floor((performance.now() - began) / 1000 * perSecond)
    for (; sent < due && inFlight.size < MAX_IN_FLIGHT; sent++) {
      const request = executeNext().finally(() => { inFlight.delete(request) })
      inFlight.add(request)
    }
    await delay(5)
  }
  const seconds = (performance.now() - began) / 1000
  await Promise.all(inFlight)
  const [p50, p99] = [quantile(times, 0.5), quantile(times, 0.99)]
  return { sent, rate: sent / seconds, p50, p99, longest: quantile(times, 1), byStatus, ...allowed, faults }
}
