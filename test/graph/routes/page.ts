import { GraphError, type Json } from '../errors.js'
import type { Call } from './tokens/auth.js'

/** One page of items, as the parameters of the call ask for it; `text` is the token of the caller. */
export function page<Item extends { id: string }> (
  items: Item[], { params, url }: Call, text: string
): { shown: Item[], paging?: Json } {
  const limit = Number(params.get('limit') ?? 25)
  if (!Number.isInteger(limit) || limit < 1 || limit > 100) {
    throw new GraphError(400, 100, '(#100) Param limit must be an integer from 1 to 100')
  }
  const after = params.get('after')
  const start = after === null ? 0 : items.findIndex(item => cursor(item) === after) + 1
  if (after !== null && start === 0) throw new GraphError(400, 100, '(#100) Invalid cursor')

  const shown = items.slice(start, start + limit)
  const first = shown[0]
  const last = shown.at(-1)
  if (!first || !last) return { shown }
  const paging: Json = { cursors: { before: cursor(first), after: cursor(last) } }
  if (start + limit < items.length) {
    // As at Graph, the link contains the token, however it was sent, but not the proof.
    const next = new URLSearchParams(params)
    next.delete('appsecret_proof')
    next.set('access_token', text)
    next.set('limit', String(limit))
    next.set('after', cursor(last))
    paging.next = `${url}?${next}`
  }
  return { shown, paging }
}

const cursor = (item: { id: string }) => Buffer.from(item.id).toString('base64url')
