import type { FastifyBaseLogger } from 'fastify'
import { Registry } from 'prom-client'
import { createCollected } from './collected.js'
import { addGraphCalls } from './graph-calls.js'
import { createHttpRequests } from './http-requests.js'
import { createMetricsListener } from './listener.js'
import { addLoader, addPool } from './loader.js'
import { addProcess } from './process.js'
import { addState } from './state.js'

export type ExporterDependencies = Parameters<typeof addState>[1] & {
  pool: Parameters<typeof addPool>[1]
  configLoader: Parameters<typeof addLoader>[1]
  metaGraph: Parameters<typeof addGraphCalls>[2]
  /** The address that serves the metrics. */
  host: string
  port: number
  log: FastifyBaseLogger
}

/** Creates all metrics and their listener. The registry is their own: the host server may use the global one. */
export function createExporter ({ pool, configLoader, metaGraph, host, port, ...dependencies }: ExporterDependencies) {
  const registry = new Registry()
  const collected = createCollected(registry)
  const { observe } = createHttpRequests(registry)
  addGraphCalls(registry, collected, metaGraph)
  addLoader(collected, configLoader)
  addPool(collected, pool)
  addState(collected, dependencies)
  const endProcess = addProcess(collected)
  const listener = createMetricsListener({ registry, host, port, log: dependencies.log })
  return {
    observe,
    open: listener.open,
    async close (): Promise<void> {
      endProcess()
      await listener.close()
    }
  }
}
