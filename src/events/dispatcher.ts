import type { Database } from '../database/database.js'
import { createPoller } from '../waiting/poller.js'
import { sharedController } from '../waiting/wait-for.js'
import { claimQuery, endQuery, postponeQuery, type ClaimedEvent } from './outbox.sql.js'
import type { Post } from './post.js'
import { nextStep } from './retry.js'

const POLL_MS = 5000
/** How long a delivery may still run once closing begins. */
const CLOSE_WITHIN_MS = 3000

interface DeliveryDependencies {
  database: Pick<Database, 'run'>
  post: Post
  /** Pino-like. */
  log: Record<'info' | 'warn' | 'error', (fields: object, message: string) => void>
}

/**
 * Delivers the events of the outbox.
 *
 * An event is delivered at least once; a repeated delivery has the same id. The events of a tenant are delivered in
 * their order: while one waits, so do its later ones. Any number of processes may deliver at once; each claims other
 * events.
 */
export function createEventDelivery ({ database, post, log }: DeliveryDependencies) {
  const overtime = sharedController()
  const poller = createPoller({ periodMs: POLL_MS, work })
  let isClosing = false
  let isDatabaseDown = false

  /** Delivers all due events. */
  async function work (): Promise<void> {
    try {
      // A delivered event makes the next one of its tenant due.
      while (await deliverBatch());
    } catch (err) {
      reportDatabaseError(err)
    }
  }

  /** Delivers a batch. Returns false when no event is due, or once closing. */
  async function deliverBatch (): Promise<boolean> {
    if (isClosing) return false
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
    const { id, type, attempts } = event
    const outcome = await post(event, overtime.signal)
    const { status, reason } = outcome
    const step = nextStep(event, outcome)
    const [changed] = await database.run(step.state === 'waiting'
      ? postponeQuery(event, { ...step, status })
      : endQuery(event, { ...step, status }))

    const fields = { id, type, attempts, status, reason }
    if (step.state === 'delivered') log.info(fields, 'an event was delivered')
    else if (step.state === 'ended' && changed !== undefined) log.error(fields, 'an event is given up')
    else log.warn(fields, 'an event could not be delivered yet')
  }

  return {
    /** Polls for events now, then every 5 seconds. */
    start: poller.start,

    /** Claims no more events. Running deliveries are aborted after 3 seconds. */
    close (): void {
      isClosing = true
      setTimeout(() => { overtime.abort() }, CLOSE_WITHIN_MS).unref()
    },

    /** Waits for running deliveries. */
    closed: poller.stop
  }
}
