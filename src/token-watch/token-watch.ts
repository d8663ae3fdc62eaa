import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { createTokenScheduler } from './scheduler.js'
import { createTokenStore, type TokenStore } from './store.js'

declare module 'fastify' {
  interface FastifyInstance { tokenWatch: TokenWatch }
}

export { reasonOf } from './check.js'
export type { TokenFinding } from './state.js'
export type { TokenHealth } from './store.js'
export type { LockedWatch } from './token-watch.sql.js'

export type TokenWatch = TokenStore

type Dependencies =
  Parameters<typeof createTokenStore>[0] & Omit<Parameters<typeof createTokenScheduler>[0], 'tokenWatch'>

/** The state of every stored token, and the scheduler that checks them. */
export function createTokenWatch (dependencies: Dependencies) {
  const tokenWatch: TokenWatch = createTokenStore(dependencies)
  return { tokenWatch, scheduler: createTokenScheduler({ ...dependencies, tokenWatch }) }
}

/**
 * Decorates `fastify.tokenWatch`, and runs the scheduler from `onReady` to the close. First it reconciles rows that
 * were loaded while the triggers were off.
 */
async function tokenWatch (fastify: FastifyInstance): Promise<void> {
  const { database, vault, metaGraph, tenantConfigs, events, audit, log, env } = fastify
  try {
    const found = await database.reconcile()
    if (Object.keys(found).length > 0) log.warn({ found }, 'reconciled what was loaded while triggers were off')
  } catch (err) {
    log.warn({ err }, 'could not reconcile what was loaded while triggers were off; the next start tries again')
  }
  const { tokenWatch, scheduler } = createTokenWatch({
    database,
    vault,
    metaGraph,
    tenantConfigs,
    events,
    audit,
    interval: env.TOKEN_CHECK_INTERVAL_MS,
    concurrency: env.TOKEN_CHECK_CONCURRENCY,
    timeoutMs: env.GRAPH_TIMEOUT_MS,
    log
  })
  fastify.decorate('tokenWatch', tokenWatch)
  fastify.addHook('onReady', async () => { scheduler.start() })
  fastify.addHook('preClose', async () => { scheduler.close() })
  // Runs before the hook of the database, which was registered earlier.
  fastify.addHook('onClose', async () => { await scheduler.closed() })
}

export default fp(tokenWatch, {
  name: 'token-watch',
  dependencies: ['env', 'database', 'vault', 'meta-graph', 'tenant-configs', 'events', 'audit']
})
