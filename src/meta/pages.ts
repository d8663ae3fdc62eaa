import { type Static, type TSchema, Type } from '@sinclair/typebox'
import { MetaUnexpectedReply } from '../errors.js'
import { maybe } from '../schemas/fields.js'
import type { GraphCalls } from './calls.js'
import type { GraphRequest } from './types.js'

const MAX_PAGES = 50

/** A page of a list, with items of this schema. */
export const Page = <T extends TSchema>(item: T) => Type.Object({
  data: Type.Array(item),
  paging: maybe(Type.Object({
    cursors: maybe(Type.Object({ after: maybe(Type.String()) })),
    next: maybe(Type.String())
  }))
})

/**
 * Returns `allPages`, which reads the items of all pages of a list. They share the signal of the request, or the
 * timeout of one call.
 */
export function createPageReader ({ send, failCall, timeoutSignal }: GraphCalls) {
  return async function allPages<T extends TSchema> (
    request: GraphRequest, schema: ReturnType<typeof Page<T>>
  ): Promise<Static<T>[]> {
    const items: Static<T>[] = []
    const { signal = timeoutSignal() } = request
    let after: string | undefined
    for (let page = 0; page < MAX_PAGES; page++) {
      const query = { ...request.query, ...(after && { after }) }
      const { data, paging } = await send({ ...request, query, signal }, schema)
      items.push(...data)
      // The last page has `after` too, but no `next`. The URL in `next` carries the token, and is never followed.
      if (paging?.next == null) return items
      const last = after
      after = paging.cursors?.after ?? undefined
      if (!after || after === last) break
    }
    throw failCall(request, { throws: MetaUnexpectedReply }, { sent: true, status: 200 })
  }
}
