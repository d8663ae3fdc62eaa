import { EventEmitter, once } from 'node:events'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { RateLimited } from '../errors.js'
import { maxWaitMs, waitFor } from '../waiting/wait-for.js'

declare module 'fastify' {
  interface FastifyInstance { tenantQueues: TenantQueues }
}

export type TenantQueues = ReturnType<typeof createTenantQueues>

/** Per tenant. */
const MAX_RUNNING = 5
const MAX_WAITING = 50

/** A tenant's queue. Each waiting request is an emitter of `start`; the oldest comes first. */
interface Queue { running: number, waiting: Set<EventEmitter> }

/**
 * Creates one queue per tenant for long requests: all that call Meta, and the start of a login. The queues keep one
 * tenant from using up the database connections.
 */
export function createTenantQueues ({ closing, timeoutMs }: { closing: AbortSignal, timeoutMs: number }) {
  // A queue exists only while its requests run, which bounds the map.
  const queues = new Map<string, Queue>()
  const running = new Set<Promise<unknown>>()

  return {
    /**
     * Runs `work` as soon as the tenant has a free slot, and returns its result. An abort of `client`, or the close of
     * the service, ends the wait for a slot, not the work.
     *
     * @param client aborted when the client disconnects
     * @param work gets whether it had to wait
     * @throws RateLimited when the queue is full, or no slot is free within `maxWaitMs`; ServiceClosing; the reason of
     * `client`; what `work` throws
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

    /** Resolves when all running work has ended. */
    settled: async (): Promise<void> => { await Promise.allSettled(running) }
  }

  async function waitForSlot (tenantId: string, queue: Queue, client: AbortSignal): Promise<void> {
    if (queue.waiting.size >= MAX_WAITING) throw new RateLimited()
    const slot = new EventEmitter()
    queue.waiting.add(slot)
    try {
      await waitFor(once(slot, 'start'), [client, closing], { ms: maxWaitMs(timeoutMs), TimeoutError: RateLimited })
    } catch (err) {
      // The slot may have become free at the moment of the abort.
      if (!queue.waiting.delete(slot)) startNext(tenantId, queue)
      throw err
    }
  }

  /** Passes the slot of an ended request to the next one. */
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
  // Runs before the hook of the database, which was added earlier: running work may have a token still to store.
  fastify.addHook('onClose', async () => { await fastify.tenantQueues.settled() })
}

export default fp(tenantQueues, { name: 'tenant-queues', dependencies: ['env', 'database', 'closing'] })
