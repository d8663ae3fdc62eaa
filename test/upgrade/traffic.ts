import { setTimeout as delay } from 'node:timers/promises'
import { quantile } from '../bench/measure/rounds.js'

/** A request, without the origin. */
export interface Call { method: string, path: string, headers: Record<string, string>, body?: object | undefined }

/** The results of a phase; times in milliseconds. A failure is a 5xx or a lost connection. */
export interface Phase { name: string, requests: number, p50: number, p99: number, longest: number, failures: string[] }

/** Each worker sends one request at a time. */
const WORKERS = 4
/** The pause between two requests of a worker; without it the load would measure the machine. */
const PAUSE_MS = 10

/** Sends a request; returns its status (0 without an answer) and its body. */
export async function send (
  origin: string,
  { method, path, headers, body }: Call
): Promise<{ status: number, text: string }> {
  try {
    const reply = await fetch(origin + path, {
      method,
      headers: { ...headers, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) })
    })
    return { status: reply.status, text: await reply.text() }
  } catch (err) {
    return { status: 0, text: String(err) }
  }
}

/** Sends requests to the services in `origins`, which may grow, until `stop`. */
export function startTraffic (origins: string[], next: () => Call, first: string) {
  const phases: Phase[] = []
  const stopped = new AbortController()
  let [name, times, failures] = [first, Array<number>(), Array<string>()]
  let sent = 0

  async function work (): Promise<void> {
    while (!stopped.signal.aborted) {
      const call = next()
      const began = performance.now()
      const { status, text } = await send(origins[sent++ % origins.length] ?? '', call)
      times.push(performance.now() - began)
      if (status >= 500 || status === 0) {
        failures.push(`${name}: ${call.method} ${call.path}: ${status} ${text.slice(0, 200)}`)
      }
      await delay(PAUSE_MS)
    }
  }

  /** Ends a phase and starts another one. */
  function startPhase (following: string): void {
    phases.push({
      name,
      requests: times.length,
      p50: quantile(times, 0.5),
      p99: quantile(times, 0.99),
      longest: Math.max(...times),
      failures
    });
    [name, times, failures] = [following, [], []]
  }

  const working = Array.from({ length: WORKERS }, work)
  return {
    startPhase,
    async stop (): Promise<Phase[]> {
      stopped.abort()
      await Promise.all(working)
      startPhase('')
      return phases
    }
  }
}
