import type { Database } from '../database/database.js'
import { EventNotFound, InvalidCursor } from '../errors.js'
import { isIsoTime } from '../schemas/timestamps.js'
import {
  existsQuery, listQuery, redeliverQuery, type EventFilters, type EventKey, type EventState
} from './history.sql.js'

export interface EventsQuery extends EventFilters {
  limit: number
  /** `next` of the previous page. */
  cursor?: string | undefined
}

export type EventHistory = ReturnType<typeof createEventHistory>

/** Creates the admin's view of all events that wait or ended. All methods throw `DATABASE_UNAVAILABLE`. */
export function createEventHistory ({ database }: { database: Pick<Database, 'run'> }) {
  return {
    /**
     * Returns a page of events, the newest first.
     *
     * @returns `next`: the cursor of the next page; null on the last one
     * @throws INVALID_CURSOR
     */
    async list ({ limit, cursor, ...filters }: EventsQuery): Promise<{ events: EventState[], next: string | null }> {
      const before = cursor === undefined ? undefined : parseCursor(cursor)
      const rows = await database.run(listQuery({ ...filters, before, limit: limit + 1 }))
      // The last event of the page, when another one follows.
      const [last] = rows.slice(limit - 1, -1)
      return { events: rows.slice(0, limit), next: last === undefined ? null : formatCursor(last) }
    },

    /**
     * Makes an event due, as if it had never been sent. An ended one waits again.
     *
     * @throws EVENT_NOT_FOUND
     */
    async redeliver (id: string): Promise<EventState> {
      // An event that moves between the tables meanwhile is in none of them for the statement.
      while ((await database.run(existsQuery(id))).length > 0) {
        const [event] = await database.run(redeliverQuery(id))
        if (event !== undefined) return event
      }
      throw new EventNotFound()
    }
  }
}

// A cursor is the key of the last event of a page. The encoding marks it as opaque to clients.
const formatCursor = ({ at, id }: EventKey) => Buffer.from(`${at} ${id}`).toString('base64url')

function parseCursor (cursor: string): EventKey {
  const [at = '', id = ''] = Buffer.from(cursor, 'base64url').toString().split(' ')
  if (!isIsoTime(at) || !UUID.test(id) || formatCursor({ at, id }) !== cursor) throw new InvalidCursor()
  return { at, id }
}

const UUID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/
