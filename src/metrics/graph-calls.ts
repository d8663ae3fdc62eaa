import { Counter, Histogram, type Registry } from 'prom-client'
import type { MetaGraph } from '../meta/meta-graph.js'
import type { Collected } from './collected.js'

/** In seconds. */
const BUCKETS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

/** Adds the metrics of the Graph API. */
export function addGraphCalls (
  registry: Registry, { gauge, gaugeBy }: Collected,
  metaGraph: Pick<MetaGraph, 'onCall' | 'highestUtilizations' | 'blockedApps'>
): void {
  const registers = [registry]
  const calls = new Counter({
    name: 'wtc_graph_calls_total',
    help: 'Calls of the Graph API by name and outcome: ok, or the code of the error.',
    labelNames: ['call', 'outcome'],
    registers
  })
  const durations = new Histogram({
    name: 'wtc_graph_call_duration_seconds',
    help: 'Time that a call of the Graph API took.',
    labelNames: ['call'],
    buckets: BUCKETS,
    registers
  })
  metaGraph.onCall(({ call, outcome, seconds }) => {
    calls.inc({ call, outcome })
    durations.observe({ call }, seconds)
  })
  gaugeBy('wtc_meta_utilization_ratio', 'The most used limit of Meta of any app or account, 0 to 1.', 'kind', () => {
    const { app, account } = metaGraph.highestUtilizations()
    return { app: app / 100, account: account / 100 }
  })
  gauge('wtc_meta_blocked_apps', 'Apps that Meta blocks at present.', () => metaGraph.blockedApps().length)
}
