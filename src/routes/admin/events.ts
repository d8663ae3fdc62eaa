import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { DatabaseUnavailable, EventNotFound, InvalidCursor } from '../../errors.js'
import { NoBody } from '../../schemas/config.js'
import { EventParams, EVENTS_PAGE_SIZE, EventsQuery } from '../../schemas/events.js'

const tags = ['admin']

/** The events of all tenants: list them, redeliver one. */
const events: FastifyPluginAsyncTypebox = async (fastify) => {
  const { events } = fastify

  fastify.get('/events', {
    config: { errors: [InvalidCursor, DatabaseUnavailable] },
    schema: {
      operationId: 'listEvents',
      summary: 'List events, the newest first, a page at a time',
      description: 'Those that wait for their delivery, and those whose delivery ended in the last 7 days.',
      tags,
      querystring: EventsQuery,
      response: { 200: Type.Ref('EventPage') }
    }
  }, async ({ query: { limit = EVENTS_PAGE_SIZE, ...query } }) => {
    const { events: page, next } = await events.list({ ...query, limit })
    return { events: page, next_cursor: next }
  })

  fastify.post('/events/:id/redeliver', {
    config: { errors: [EventNotFound, DatabaseUnavailable], audit: { action: 'event.redeliver' } },
    schema: {
      operationId: 'redeliverEvent',
      summary: 'Deliver an event again, or now',
      description: 'Whether it waits, was delivered or was given up: it is due now, as if it had never been sent. ' +
        'Earlier events of its tenant that wait are sent first.',
      tags,
      params: EventParams,
      body: NoBody,
      response: { 200: Type.Ref('EventState') }
    }
  }, async ({ params: { id } }) => await events.redeliver(id))
}

export default events
