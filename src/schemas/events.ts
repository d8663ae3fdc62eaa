import { Type } from '@sinclair/typebox'
import { nullable, oneOf, pageLimit, tenantId, timestamp, uuid } from './fields.js'
import { eventStates } from './statuses.js'

/** Events on a page when the query has no `limit`. */
export const EVENTS_PAGE_SIZE = 50

const example = {
  id: '5d0f6f0e-6a7c-4a58-9d3b-1f8f6a3f0c55',
  type: 'token.revoked',
  tenant_id: 'acme',
  at: '2026-11-23T12:00:00.000000Z',
  state: 'waiting',
  attempts: 2,
  next_attempt_at: '2026-11-23T12:00:35.000000Z',
  last_status: 503
}

// The cursor of a page whose last event is `example`.
const cursorExample = Buffer.from(`${example.at} ${example.id}`).toString('base64url')

/** The query of GET /admin/events. */
export const EventsQuery = Type.Object({
  limit: pageLimit(EVENTS_PAGE_SIZE, 'events'),
  cursor: Type.Optional(Type.String({ description: '`next_cursor` of the page before', examples: [cursorExample] })),
  state: Type.Optional(oneOf(eventStates, { description: 'Only those in this state', examples: ['ended'] })),
  tenant_id: Type.Optional(tenantId({ description: 'Only those of this tenant', examples: ['acme'] }))
}, { additionalProperties: false })

/** An event, and how its delivery stands. */
export const EventState = Type.Object({
  id: Type.String({ description: 'The `id` of the event, and its header `webhook-id`' }),
  type: Type.String({ description: 'Such as `token.revoked`' }),
  tenant_id: Type.String({ description: 'Whose event it is' }),
  at: timestamp({ description: 'When it happened' }),
  state: oneOf(eventStates, {
    description: '`waiting`: to be delivered; `delivered`: answered with 2xx; `ended`: given up'
  }),
  attempts: Type.Integer({ minimum: 0, description: 'How often it was sent since it was recorded or redelivered' }),
  next_attempt_at: nullable(timestamp({ description: 'When it is sent next, at the earliest; null unless it waits' })),
  last_status: Type.Unsafe<number | null>({
    type: ['integer', 'null'],
    description: 'The HTTP status of the last attempt; null when there was none, or no answer'
  })
}, { $id: 'EventState', description: 'An event and how its delivery stands', examples: [example] })

/** A page of events. */
export const EventPage = Type.Object({
  events: Type.Array(Type.Ref('EventState'), { description: 'The newest first' }),
  next_cursor: nullable(Type.String({ description: 'Send it as `cursor` for the next page; null on the last one' }))
}, {
  $id: 'EventPage',
  description: 'A page of events',
  examples: [{ events: [example], next_cursor: cursorExample }]
})

/** The path parameter of the routes for one event. */
export const EventParams = Type.Object({
  id: uuid({ description: 'The `id` of an event', examples: [example.id] })
})
