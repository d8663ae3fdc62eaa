import { createHmac } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Database } from '../database/database.js'
import { claimQuery, postponeQuery, removeQuery, type ClaimedEvent } from './outbox.sql.js'

const POLL_MS = 5000
/** One delivery may take this long, well under the lease of an event in outbox.sql.ts. */
const TIMEOUT_MS = 10_000
/** What is under way when closing begins may take this much longer. */
const CLOSE_WITHIN_MS = 3000
/** An attempt that fails is followed by the next after 5 to 10 seconds, then after twice the time, and so on up to an hour. */
const FIRST_DELAY_S = 10
const MAX_DELAY_S = 3600

interface DeliveryDependencies {
  database: Pick<Database, 'run'>
  /** Where events go. */
  url: string
  /** What signs them. */
  secret: string
  fetch: typeof globalThis.fetch
  /** Pino-like. */
  log: Record<'info' | 'warn' | 'error', (fields: object, message: string) => void>
}

/** What came of a delivery: an HTTP status, or why there is none. */
type DeliveryResult = { status: number, isDelivered: boolean } | { reason: unknown, isDelivered: false }

/**
 * Delivers the events of the outbox: each as the JSON `{id, type, tenant_id, from, to, reason, at}` by POST, with the header
 * `x-signature-256: sha256=<hex>`, the HMAC-SHA256 over the bytes of the body. An answer of 2xx is a delivery; no redirect is followed.
 *
 * Each event is delivered at least once: one whose delivery was not noted, because the process or the database went away, is
 * delivered again, with the same id. A tenant's events come in their order: while one waits, so do the later ones of that tenant.
 * What fails is tried again, ever more seldom, and given up when the event is 7 days old. Any number of processes may do
 * this at once; none delivers what another one is delivering.
 */
export function createEventDelivery ({ database, url, secret, fetch, log }: DeliveryDependencies) {
  const closing = new AbortController()
  let isStopped = false
  let isDatabaseDown = false
  let timer: NodeJS.Timeout | undefined
  let working = Promise.resolve()

  /** Delivers what is due and, until stopped, looks again later. */
  async function work (): Promise<void> {
    try {
      // What one batch delivered may have let others become due.
      while (await deliverBatch());
    } catch (err) {
      reportDatabaseError(err)
    }
    if (isStopped) return
    timer = setTimeout(() => { working = work() }, POLL_MS).unref()
  }

  /** Delivers a batch. Returns false when nothing is due, or nothing more is to be taken. */
  async function deliverBatch (): Promise<boolean> {
    if (isStopped) return false
    const events = await database.run(claimQuery())
    isDatabaseDown = false
    await Promise.all(events.map(async (event) => { await deliver(event).catch(reportDatabaseError) }))
    return events.length > 0
  }

  /** The database is away: what is claimed stays in the outbox, and is due again when its lease ends. */
  function reportDatabaseError (err: unknown): void {
    if (!isDatabaseDown) log.warn({ err }, 'the outbox of events cannot be read or written')
    isDatabaseDown = true
  }

  async function deliver (event: ClaimedEvent): Promise<void> {
    const { id, type, attempts, is_last: isLast } = event
    const { isDelivered, ...outcome } = await post(event)
    const seen = { id, type, attempts, ...outcome }
    if (isDelivered || isLast) await database.run(removeQuery(id))
    else await database.run(postponeQuery(event, delayAfter(attempts)))

    if (isDelivered) log.info(seen, 'an event was delivered')
    else if (isLast) log.error(seen, 'an event could not be delivered for 7 days and is given up')
    else log.warn(seen, 'an event could not be delivered yet')
  }

  async function post ({ id, type, tenant_id, from, to, reason, at }: ClaimedEvent): Promise<DeliveryResult> {
    const body = JSON.stringify({ id, type, tenant_id, from, to, reason, at })
    const signature = createHmac('sha256', secret).update(body).digest('hex')
    const headers = { 'content-type': 'application/json', 'x-signature-256': `sha256=${signature}` }
    const limit = new AbortController()
    const close = () => { limit.abort() }
    // AbortSignal.any can lose a timeout to the garbage collector (Node 20).
    const deadline = setTimeout(() => { limit.abort(new DOMException('too late', 'TimeoutError')) }, TIMEOUT_MS)
    closing.signal.addEventListener('abort', close)
    return await fetch(url, { method: 'POST', headers, body, redirect: 'manual', signal: limit.signal }).then(async (reply): Promise<DeliveryResult> => {
      // Nothing in the body matters, however long it is or wherever it breaks off.
      await Promise.allSettled([reply.body?.cancel()])
      return { status: reply.status, isDelivered: reply.ok }
    }).catch((err: unknown): DeliveryResult => ({ reason: causeOf(err), isDelivered: false })).finally(() => {
      clearTimeout(deadline)
      closing.signal.removeEventListener('abort', close)
    })
  }

  return {
    /** Looks for events at once, and from then on every 5 seconds. */
    start (): void {
      working = work()
    },

    /** Takes no more events, and waits for the deliveries under way: 3 seconds at most, then they are broken off. */
    async stop (): Promise<void> {
      isStopped = true
      clearTimeout(timer)
      const limit = setTimeout(() => { closing.abort() }, CLOSE_WITHIN_MS)
      await working
      clearTimeout(limit)
    }
  }
}

/** Seconds to wait after so many attempts; a random half of it keeps what failed together from coming back together. */
function delayAfter (attempts: number): number {
  return Math.min(FIRST_DELAY_S * 2 ** (attempts - 1), MAX_DELAY_S) * (1 + Math.random()) / 2
}

/** What the operating system or TLS calls it, such as ECONNREFUSED, or the kind of error, such as TimeoutError. */
function causeOf (err: unknown): unknown {
  return err instanceof Error && (err.cause instanceof Error && 'code' in err.cause ? err.cause.code : err.name)
}

/** Delivers events while `EVENTS_WEBHOOK_URL` is set. */
async function eventDelivery (fastify: FastifyInstance): Promise<void> {
  const { EVENTS_WEBHOOK_URL: url, EVENTS_WEBHOOK_SECRET: secret } = fastify.env
  if (url === undefined || secret === undefined) return
  const delivery = createEventDelivery({ database: fastify.database, url, secret, fetch, log: fastify.log })
  fastify.addHook('onReady', async () => { delivery.start() })
  fastify.addHook('onClose', async () => { await delivery.stop() })
}

export default fp(eventDelivery, { name: 'event-delivery', dependencies: ['env', 'database'] })
