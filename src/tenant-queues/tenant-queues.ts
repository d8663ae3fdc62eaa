import { EventEmitter, once } from 'node:events'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { RateLimited } from '../errors.js'
import { maxWaitMs, waitFor } from '../waiting/wait-for.js'

declare module 'fastify' {
  interface FastifyInstance { tenantQueues: TenantQueues }
}

export type TenantQueues = ReturnType<typeof createTenantQueues>

/** How many requests of one tenant run at a time, and how many more may wait. */
const MAX_RUNNING = 5
const MAX_WAITING = 50

/** A tenant's queue. Each waiting request is an emitter of `start`; the oldest is the first. */
interface Queue { running: number, waiting: Set<EventEmitter> }

/**
 * Queues what a tenant asks for and what may take long, one queue a tenant: all requests that call Meta, and `start`. So no tenant takes
 * the connections of the database from the others.
 */
export function createTenantQueues ({ closing, timeoutMs }: { closing: AbortSignal, timeoutMs: number }) {
  // A queue exists while something of it runs, so there are never more of them than requests.
  const queues = new Map<string, Queue>()
  const running = new Set<Promise<unknown>>()

  return {
    /**
     * Runs `work` in its turn and returns its result. `work` is told whether it has waited for that. A client that leaves, or a service
     * that closes, ends the wait, not the work.
     *
     * @param client aborted when nobody waits for the result any more
     * @throws RateLimited when the queue is full, or the turn does not come within `maxWaitMs`; ServiceClosing; the
     * reason of `client`; what `work` throws
     */
    async run<T> (tenantId: string, client: AbortSignal, work: (hasWaited: boolean) => Promise<T>): Promise<T> {
      closing.throwIfAborted()
      const queue = queues.get(tenantId) ?? { running: 0, waiting: new Set() }
      const hasWaited = queue.running >= MAX_RUNNING
      if (hasWaited) await waitForSlot(tenantId, queue, client)
      else queue.running++
      queues.set(tenantId, queue)
      const result = work(hasWaited).finally(() => {
        running.delete(result)
        startNext(tenantId, queue)
      })
      running.add(result)
      return await result
    },

    /** Resolves when nothing runs. */
    settled: async (): Promise<void> => { await Promise.allSettled(running) }
  }

  async function waitForSlot (tenantId: string, queue: Queue, client: AbortSignal): Promise<void> {
    if (queue.waiting.size >= MAX_WAITING) throw new RateLimited()
    const slot = new EventEmitter()
    queue.waiting.add(slot)
    try {
      await waitFor(once(slot, 'start'), [client, closing], { ms: maxWaitMs(timeoutMs), TimeoutError: RateLimited })
    } catch (err) {
      // The turn may have come in the moment in which the wait ended.
      if (!queue.waiting.delete(slot)) startNext(tenantId, queue)
      throw err
    }
  }

  /** Gives the place of a request that has ended to the next one. */
  function startNext (tenantId: string, queue: Queue): void {
    const [next] = queue.waiting
    if (next !== undefined) {
      queue.waiting.delete(next)
      next.emit('start')
    } else if (--queue.running === 0) {
      queues.delete(tenantId)
    }
  }
}

/** Decorates `fastify.tenantQueues`. */
async function tenantQueues (fastify: FastifyInstance): Promise<void> {
  const { closing, env } = fastify
  fastify.decorate('tenantQueues', createTenantQueues({ closing, timeoutMs: env.GRAPH_TIMEOUT_MS }))
  // Before the hook of the database, which was registered earlier: a token that was just granted exists nowhere else.
  fastify.addHook('onClose', async () => { await fastify.tenantQueues.settled() })
}

export default fp(tenantQueues, { name: 'tenant-queues', dependencies: ['env', 'database', 'closing'] })
