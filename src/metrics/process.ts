import { readFileSync } from 'node:fs'
import { monitorEventLoopDelay, performance } from 'node:perf_hooks'
import type { Collected } from './collected.js'

/** How often the delay of the event loop is measured. */
const RESOLUTION_MS = 20
const QUANTILES = [0.5, 0.99, 1]

/** Adds the metrics of this process. Returns a function that ends the measurement of the event loop. */
export function addProcess ({ counter, gauge, gaugeBy }: Collected): () => void {
  const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  delays.enable()
  gaugeBy(
    'wtc_event_loop_lag_seconds',
    'How late timers ran since the last scrape, by quantile; 1 is the maximum.',
    'quantile',
    () => {
      const lags = QUANTILES.map((quantile) => [quantile, lagOf(delays.percentile(quantile * 100))])
      delays.reset()
      return Object.fromEntries(lags)
    }
  )
  counter(
    'wtc_event_loop_active_seconds_total',
    'Time that the event loop was busy; its rate is the utilization.',
    () => performance.eventLoopUtilization().active / 1000
  )
  counter('wtc_process_cpu_seconds_total', 'CPU time of the process.', () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1e6
  })
  const versions = { service: ownVersion(), node: process.version }
  const startedAt = performance.timeOrigin / 1000
  gauge('wtc_process_start_time_seconds', 'Start of the process, in Unix seconds.', () => startedAt)
  gauge('wtc_process_resident_memory_bytes', 'Memory of the process.', () => process.memoryUsage.rss())
  gauge('wtc_process_heap_bytes', 'Used heap of JavaScript.', () => process.memoryUsage().heapUsed)
  gaugeBy('wtc_build_info', 'The version of the service; the value is 1.', 'version', () => ({ [versions.service]: 1 }))
  gaugeBy('wtc_node_info', 'The version of Node; the value is 1.', 'version', () => ({ [versions.node]: 1 }))
  return () => { delays.disable() }
}

/** The delay in seconds beyond the interval of the measurement (nanoseconds); 0 where nothing was measured. */
function lagOf (interval: number): number {
  return Math.max(0, interval / 1e9 - RESOLUTION_MS / 1000)
}

function ownVersion (): string {
  const file = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  const { version }: { version: string } = JSON.parse(file)
  return version
}
