import type { LookupFunction } from 'node:net'
import type { Fetch } from '../outbound/outbound.js'
import { withTimeoutSignal } from '../waiting/timeout-signal.js'
import { waitFor } from '../waiting/wait-for.js'
import type { Outcome, Send } from './send.js'

interface ProxiedSendOptions {
  target: URL
  timeoutMs: number
  /** Uses the proxy, unless NO_PROXY names the host. */
  fetch: Fetch
  /** Checks the addresses of the host before each attempt: the proxy gets the name. undefined: any address is good. */
  lookup: LookupFunction | undefined
}

/** Returns the function that posts by the proxy. */
export function createProxiedSend ({ target, timeoutMs, fetch, lookup }: ProxiedSendOptions): Send {
  return async function send (body, headers, closing): Promise<Outcome> {
    try {
      return await withTimeoutSignal(closing, timeoutMs, async (signal) => {
        if (lookup !== undefined) await waitFor(lookUp(target, lookup), [signal])
        const reply = await fetch(target, { method: 'POST', headers, body, redirect: 'manual', signal })
        // The body is not read: it may be endless, or break off.
        await reply.body?.cancel()
        return { status: reply.status, retryAfter: reply.headers.get('retry-after') ?? undefined }
      })
    } catch (err) {
      return { status: null, reason: closing.aborted ? 'ABORT_ERR' : reasonOf(err) }
    }
  }
}

/** @throws what the lookup fails with */
async function lookUp ({ hostname }: URL, lookup: LookupFunction): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    lookup(hostname.replace(/^\[|\]$/g, ''), { all: true }, (err) => {
      if (err === null) resolve()
      else reject(err)
    })
  })
}

/** The code of the lookup, or of the cause of a failed fetch. */
function reasonOf (err: unknown): string | undefined {
  if (err instanceof DOMException && err.name === 'TimeoutError') return 'ETIMEDOUT'
  const cause = err instanceof TypeError ? err.cause : err
  return cause instanceof Error && 'code' in cause ? String(cause.code) : undefined
}
