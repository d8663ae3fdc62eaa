import type { TenantEvent } from './outbox.sql.js'
import type { Outcome } from './send.js'
import { createSignedPost, type SignedPostOptions } from './signed-post.js'

export type Post = ReturnType<typeof createPoster>

/** Returns the function that posts an event once: the JSON `{id, type, tenant_id, from, to, reason, at}`, signed. */
export function createPoster (options: Omit<SignedPostOptions, 'spanName'>) {
  const send = createSignedPost({ ...options, spanName: 'deliver event' })

  /** @param closing aborts the attempt */
  return async function post (event: TenantEvent, closing: AbortSignal): Promise<Outcome> {
    const { id, type, tenant_id, from, to, reason, at } = event
    return await send({ id, body: JSON.stringify({ id, type, tenant_id, from, to, reason, at }) }, closing)
  }
}
