import { createHmac } from 'node:crypto'
import type { Database } from '../database/database.js'
import { sharedController } from '../waiting/wait-for.js'
import { claimQuery, postponeQuery, removeQuery, type ClaimedEvent } from './outbox.sql.js'

const POLL_MS = 5000
/** The timeout of a delivery, well below the lease of an event in outbox.sql.ts. */
const TIMEOUT_MS = 10_000
/** How long a delivery may still run once closing begins. */
const CLOSE_WITHIN_MS = 3000
/** The delay after the first failed attempt; it doubles with each further one, up to the maximum. */
const FIRST_DELAY_S = 10
const MAX_DELAY_S = 3600

interface DeliveryDependencies {
  database: Pick<Database, 'run'>
  /** The URL that events are sent to. */
  url: string
  /** The key of their signature. */
  secret: string
  fetch: typeof globalThis.fetch
  /** Pino-like. */
  log: Record<'info' | 'warn' | 'error', (fields: object, message: string) => void>
}

/** The result of a delivery: an HTTP status, or the reason why there is none. */
type DeliveryResult = { status: number, isDelivered: boolean } | { reason: unknown, isDelivered: false }

/**
 * Delivers the events of the outbox by POST: the JSON `{id, type, tenant_id, from, to, reason, at}`, with its
 * HMAC-SHA256 in the header `x-signature-256: sha256=<hex>`. An answer of 2xx is a delivery; no redirect is followed.
 *
 * An event is delivered at least once; a repeated delivery has the same id. The events of a tenant are delivered in
 * their order: while one waits, so do its later ones. An event that fails is retried until it is 7 days old. Any number
 * of processes may deliver at once; each claims other events.
 */
export function createEventDelivery ({ database, url, secret, fetch, log }: DeliveryDependencies) {
  const closing = sharedController()
  let isStopped = false
  let isDatabaseDown = false
  let timer: NodeJS.Timeout | undefined
  let working = Promise.resolve()

  /** Delivers all due events and, until stopped, polls again later. */
  async function work (): Promise<void> {
    try {
      // A delivered event makes the next one of its tenant due.
      while (await deliverBatch());
    } catch (err) {
      reportDatabaseError(err)
    }
    if (isStopped) return
    timer = setTimeout(() => { working = work() }, POLL_MS).unref()
  }

  /** Delivers a batch. Returns false when no event is due, or once stopped. */
  async function deliverBatch (): Promise<boolean> {
    if (isStopped) return false
    const events = await database.run(claimQuery())
    isDatabaseDown = false
    await Promise.all(events.map(async (event) => { await deliver(event).catch(reportDatabaseError) }))
    return events.length > 0
  }

  /** Logs the first error of an outage. Claimed events stay in the outbox, and are due again when their lease ends. */
  function reportDatabaseError (err: unknown): void {
    if (!isDatabaseDown) log.warn({ err }, 'the outbox of events cannot be read or written')
    isDatabaseDown = true
  }

  async function deliver (event: ClaimedEvent): Promise<void> {
    const { id, type, attempts, is_last: isLast } = event
    const { isDelivered, ...outcome } = await post(event)
    const fields = { id, type, attempts, ...outcome }
    if (isDelivered || isLast) await database.run(removeQuery(id))
    else await database.run(postponeQuery(event, delayAfter(attempts)))

    if (isDelivered) log.info(fields, 'an event was delivered')
    else if (isLast) log.error(fields, 'an event could not be delivered for 7 days and is given up')
    else log.warn(fields, 'an event could not be delivered yet')
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
    const result = await send({ method: 'POST', headers, body, redirect: 'manual', signal: limit.signal })
    clearTimeout(deadline)
    closing.signal.removeEventListener('abort', close)
    return result
  }

  async function send (request: RequestInit): Promise<DeliveryResult> {
    try {
      const reply = await fetch(url, request)
      // The body is not read: it may be endless, or break off.
      await Promise.allSettled([reply.body?.cancel()])
      return { status: reply.status, isDelivered: reply.ok }
    } catch (err) {
      return { reason: causeOf(err), isDelivered: false }
    }
  }

  return {
    /** Polls for events now, then every 5 seconds. */
    start (): void {
      working = work()
    },

    /** Claims no more events, and waits for running deliveries. After 3 seconds it aborts them. */
    async stop (): Promise<void> {
      isStopped = true
      clearTimeout(timer)
      const limit = setTimeout(() => { closing.abort() }, CLOSE_WITHIN_MS)
      await working
      clearTimeout(limit)
    }
  }
}

/** Seconds to wait after so many attempts. The random half spreads events that failed together. */
function delayAfter (attempts: number): number {
  return Math.min(FIRST_DELAY_S * 2 ** (attempts - 1), MAX_DELAY_S) * (1 + Math.random()) / 2
}

/** The code of the system or of TLS, such as ECONNREFUSED, else the name of the error, such as TimeoutError. */
function causeOf (err: unknown): unknown {
  return err instanceof Error && (err.cause instanceof Error && 'code' in err.cause ? err.cause.code : err.name)
}
