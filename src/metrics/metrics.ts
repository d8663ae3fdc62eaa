import assert from 'node:assert'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { ExporterDependencies } from './exporter.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Exists only with METRICS_PORT. */
    metrics: Pick<Metrics, 'observe'>
  }
}

type Metrics = Awaited<ReturnType<typeof createMetrics>>

/** Creates all metrics, and the listener that serves them. */
export async function createMetrics (dependencies: ExporterDependencies) {
  // Its library is loaded only where metrics are served: that takes a tenth of the start.
  const { createExporter } = await import('./exporter.js')
  return createExporter(dependencies)
}

/**
 * With METRICS_PORT it decorates `fastify.metrics`, and serves the metrics from `onReady` to `onClose`.
 *
 * @throws when METRICS_PORT is the port of the API
 */
async function metrics (fastify: FastifyInstance): Promise<void> {
  const { METRICS_PORT: port, METRICS_HOST: host, PORT } = fastify.env
  if (port === undefined) return
  if (port === PORT && port !== 0) throw new Error('METRICS_PORT is the port of the API: set it to another one.')
  const pool = fastify.pg['tenantConfig']?.pool
  assert(pool !== undefined)
  const { database, tenantConfigs, vault, configLoader, metaGraph, log } = fastify
  const { observe, open, close } =
    await createMetrics({ database, tenantConfigs, vault, configLoader, metaGraph, pool, host, port, log })
  fastify.decorate('metrics', { observe })
  fastify.addHook('onReady', async () => { log.info(`serving metrics at ${await open()}`) })
  fastify.addHook('onClose', close)
}

export default fp(metrics, {
  name: 'metrics',
  dependencies: ['env', 'database', 'vault', 'tenant-configs', 'config-loader', 'meta-graph']
})
