import { randomUUID } from 'node:crypto'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Queryable } from '../database/statement.js'
import { isoFromMs } from '../schemas/timestamps.js'
import { createEventDelivery } from './dispatcher.js'
import { createEventHistory, type EventHistory } from './history.js'
import { insertEvent, type NewEvent, type TenantEvent } from './outbox.sql.js'
import { createPoster } from './post.js'

export type { NewEvent, TenantEvent } from './outbox.sql.js'

declare module 'fastify' {
  interface FastifyInstance { events: Events & EventHistory }
}

export type Events = ReturnType<typeof createEvents>

type Listener = (event: TenantEvent) => void | Promise<void>

interface EventDependencies {
  /** Whether the outbox is delivered. */
  isDelivered: boolean
  log: Pick<FastifyBaseLogger, 'info' | 'warn'>
}

/** Records the events of tenants for their delivery, and passes them to listeners in this process. */
export function createEvents ({ isDelivered, log }: EventDependencies) {
  const listeners = new Set<Listener>()

  return {
    /** Records an event in the caller's transaction. The caller emits it after the commit. */
    async record (tx: Queryable, values: NewEvent): Promise<TenantEvent> {
      if (isDelivered) return await insertEvent(tx, values)
      return { id: randomUUID(), ...values, at: values.at ?? isoFromMs(Date.now()) }
    },

    /** Logs a committed event and passes it to every listener, whose errors are logged. */
    emit (event: TenantEvent): void {
      log[GOOD_NEWS.test(event.type) ? 'info' : 'warn']({ event }, event.type)
      for (const listener of listeners) {
        // An unhandled rejection would end the process.
        Promise.resolve(event).then(listener).catch((err: unknown) => {
          log.warn({ err, event_id: event.id }, 'a listener of token transitions failed')
        })
      }
    },

    /** Calls `listener` with each event. Returns a function that ends that. */
    onEvent (listener: Listener): () => void {
      listeners.add(listener)
      return () => { listeners.delete(listener) }
    }
  }
}

const GOOD_NEWS = /\.(recovered|resumed|completed)$/

/** Decorates `fastify.events`, and delivers the outbox while `EVENTS_WEBHOOK_URL` is set. */
async function events (fastify: FastifyInstance): Promise<void> {
  const { database, env, log, outbound } = fastify
  const { EVENTS_WEBHOOK_URL: url, EVENTS_WEBHOOK_SECRET: secrets } = env
  fastify.decorate('events', {
    ...createEvents({ isDelivered: url !== undefined, log }),
    ...createEventHistory({ database: database.as({ role: 'admin' }) })
  })
  if (url === undefined || secrets === undefined) return
  const allowsPrivate = env.NODE_ENV !== 'production' || env.EVENTS_ALLOW_PRIVATE
  const post = createPoster({ url, secrets, allowsPrivate, outbound })
  const delivery = createEventDelivery({ database, post, log })
  fastify.addHook('onReady', async () => { delivery.start() })
  fastify.addHook('preClose', async () => { delivery.close() })
  // Runs before the hook of the database, which was registered earlier.
  fastify.addHook('onClose', async () => { await delivery.closed() })
}

export default fp(events, { name: 'events', dependencies: ['env', 'database', 'outbound'] })
