import type { StaticDecode, TSchema } from '@sinclair/typebox'
import { MetaUnexpectedReply } from '../errors.js'
import type { GraphCalls } from './calls.js'
import { Page } from './replies.js'
import type { GraphRequest } from './types.js'

const MAX_PAGES = 50

/**
 * Returns `allPages`, which reads the items of all pages of a list. They share the signal of the request, or the
 * timeout of one call.
 */
export function createPageReader ({ send, failCall, timeoutSignal }: GraphCalls) {
  return async function allPages<T extends TSchema> (
    request: GraphRequest, item: T
  ): Promise<StaticDecode<T>[]> {
    const items: StaticDecode<T>[] = []
    const { signal = timeoutSignal() } = request
    let after: string | undefined
    for (let page = 0; page < MAX_PAGES; page++) {
      const query = { ...request.query, ...(after && { after }) }
      const { data, paging } = await send({ ...request, query, signal }, Page(item))
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
