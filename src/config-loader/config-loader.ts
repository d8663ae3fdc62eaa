import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { createInvalidationListener } from './invalidation-listener.js'
import { createLoader, type ConfigLoader } from './loader.js'
import { createOutageDetector } from './outage-detector.js'

export { createLoader } from './loader.js'
export type { ConfigLoader, LoaderStats } from './loader.js'

declare module 'fastify' {
  interface FastifyInstance { configLoader: ConfigLoader }
}

/** Decorates `fastify.configLoader`, and listens for changes from now until the server closes. */
async function configLoader (fastify: FastifyInstance): Promise<void> {
  const { env, vault, tenantConfigs, database, log } = fastify
  const detector = createOutageDetector({ probe: database.probe })
  const listener = createInvalidationListener({
    connect: database.unpooledClient,
    notify: database.notify,
    log
  })
  const { invalidate, invalidateAll, ...loader } =
    createLoader({ database, vault, env, listenerHealth: listener.health, detector })
  // A write of this process is visible to its next read, before the notification arrives.
  tenantConfigs.onChange((change) => { if (change === null) invalidateAll(); else invalidate([change]) })
  fastify.decorate('configLoader', loader)
  fastify.addHook('onClose', async () => {
    await detector.close()
    await listener.close()
    invalidateAll()
  })
  await listener.open({
    onChanges: (changes) => { if (changes === null) invalidateAll(); else invalidate(changes) },
    onConnect: () => {
      // The handshake went through the pool. An invalidated entry must be loaded now, not refused.
      detector.markUp()
      invalidateAll()
    },
    onLoss: detector.reportFailure,
    // A pooler may have had a connection left at the loss, which the probe then found.
    onRefusal: detector.reportFailure
  })
}

export default fp(configLoader, { name: 'config-loader', dependencies: ['env', 'vault', 'database', 'tenant-configs'] })
