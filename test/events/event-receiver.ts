import { createHmac } from 'node:crypto'
import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { createEventDelivery } from '../../src/events/dispatcher.js'
import { createPoster } from '../../src/events/post.js'
import { query, until } from '../helper.js'

export const secret = 'what-signs-the-events'

export type Event = Record<'id' | 'type' | 'tenant_id' | 'from' | 'to' | 'reason' | 'at', unknown>
/** An event that no outbox has. */
export const sampleEvent = {
  id: '5d0f6f0e-6a7c-4a58-9d3b-1f8f6a3f0c55',
  type: 'token.revoked',
  tenant_id: 'müller & söhne 😀',
  from: 'ok',
  to: 'revoked',
  reason: null,
  at: '2026-11-23T12:00:00.000000Z'
}

export interface Delivery { event: Event, body: Buffer, headers: IncomingHttpHeaders }
type Answer = (res: ServerResponse, event: Event) => unknown

/** Answers with a status and no body. */
export const status = (code: number): Answer => (res) => res.writeHead(code).end()

/** Starts a webhook receiver; it is closed when the test ends. */
export async function receiver (t: Test, first: Answer = status(204)) {
  const received: Delivery[] = []
  const given = { answer: first }
  const server = createServer(async (req, res) => {
    const body = Buffer.concat(await req.toArray())
    const event: Event = JSON.parse(body.toString())
    received.push({ event, body, headers: req.headers })
    given.answer(res, event)
  })
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve) })
  t.teardown(() => { server.closeAllConnections(); server.close() })
  const address = server.address()
  const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : address}/events?for=us`
  return {
    url,
    server,
    received,
    /** The reasons of the received events; each test gives every event its own reason. */
    reasons: () => received.map(({ event }) => event.reason),
    /** Replaces the answer to later deliveries. */
    answer (next: Answer) { given.answer = next },
    /** The settings of a service that delivers to this receiver. */
    env: { EVENTS_WEBHOOK_URL: url, EVENTS_WEBHOOK_SECRET: secret }
  }
}

/** The signature of a body, as a receiver computes it. */
export const signatureOf = (body: Buffer) => `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`

/** Inserts an event of this reason and age (a PostgreSQL interval) into the outbox; returns its id. */
export async function putEvent (
  databaseUrl: string,
  tenantId: string,
  reason: string | null,
  age = '0'
): Promise<string> {
  const [row] = await query(databaseUrl, `insert into events_outbox (type, tenant_id, "from", "to", reason, at)
    values ('token.revoked', $1, 'ok', 'revoked', $2, clock_timestamp() - $3::interval) returning id`, [
    tenantId, reason, age
  ])
  return String(row?.['id'])
}

/** The events in the outbox, oldest first; `wait` is the time until the next attempt, in seconds. */
export async function waiting (databaseUrl: string): Promise<{
  id: string
  reason: unknown
  attempts: number
  wait: number
}[]> {
  const rows = await query(
    databaseUrl,
    'select id, reason, attempts, extract(epoch from next_attempt_at - now())::float8 as wait from events_outbox ' +
      'order by at'
  )
  return rows.map(({ id, reason, attempts, wait }) => ({
    id: String(id),
    reason,
    attempts: Number(attempts),
    wait: Number(wait)
  }))
}

/** Makes every event due. */
export const makeAllDue = async (databaseUrl: string) => await query(
  databaseUrl,
  'update events_outbox set next_attempt_at = now()'
)

/** An event delivery that collects its log in `lines`. `run` polls at once and stops when the condition is true. */
export function deliverer (database: Pick<FastifyInstance['database'], 'run'>, url: string) {
  const lines: Record<string, unknown>[] = []
  const at = (level: string) => (fields: object, message: string) => { lines.push({ level, message, ...fields }) }
  const log = { info: at('info'), warn: at('warn'), error: at('error') }
  return {
    lines,
    async run (condition: () => boolean | Promise<boolean>): Promise<void> {
      const post = createPoster({ url, secrets: secret, allowsPrivate: true })
      const delivery = createEventDelivery({ database, post, log })
      delivery.start()
      await until(condition)
      delivery.close()
      await delivery.closed()
    }
  }
}
