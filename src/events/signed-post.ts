import dns from 'node:dns'
import type { LookupFunction } from 'node:net'
import { SpanKind } from '@opentelemetry/api'
import type { Outbound } from '../outbound/outbound.js'
import { inSpan, recordFailure, traceHeaders } from '../tracing/span.js'
import { createProxiedSend } from './proxied-send.js'
import { isPrivateAddress, PRIVATE_ADDRESS, publicOnly } from './public-address.js'
import { createDirectSend, type Outcome } from './send.js'
import { createSigner } from './signature.js'

/** The timeout of an attempt, well below the leases in outbox.sql.ts and in audit/stream.sql.ts. */
const TIMEOUT_MS = 10_000

export interface SignedPostOptions {
  /** The URL that is posted to. */
  url: string
  /** One secret, or two separated by a comma; see `createSigner`. */
  secrets: string
  /** Whether the URL may lead to an address that is not public. */
  allowsPrivate: boolean
  lookup?: LookupFunction
  /** The way out; without one every connection is direct. */
  outbound?: Pick<Outbound, 'fetchWith'>
  /** The name of the span of an attempt. */
  spanName: string
}

/** Posts a signed JSON body once. `id` is the same when it is repeated; `closing` aborts the attempt. */
export type SignedPost = (message: { id: string, body: string }, closing: AbortSignal) => Promise<Outcome>

/**
 * Returns the function that posts signed JSON. No redirect is followed. The address of each direct connection is
 * checked; in front of a proxy, that of each attempt.
 */
export function createSignedPost (options: SignedPostOptions): SignedPost {
  const { url, secrets, allowsPrivate, lookup = dns.lookup, outbound, spanName } = options
  const target = new URL(url)
  const isRefused = !allowsPrivate && isPrivateAddress(target)
  const safeLookup = allowsPrivate ? lookup : publicOnly(lookup)
  const fetch = outbound?.fetchWith(target, safeLookup)
  const send = fetch === undefined
    ? createDirectSend({ target, timeoutMs: TIMEOUT_MS, lookup: safeLookup })
    : createProxiedSend({ target, timeoutMs: TIMEOUT_MS, fetch, lookup: allowsPrivate ? undefined : safeLookup })
  const sign = createSigner(secrets)
  const attributes = () => ({ 'http.request.method': 'POST', 'server.address': target.hostname })

  return async (message, closing) =>
    await inSpan(spanName, { kind: SpanKind.CLIENT, attributes }, async (span) => {
      const outcome = await sendSigned(message, closing)
      if (outcome.status !== null) span.setAttribute('http.response.status_code', outcome.status)
      else recordFailure(span, String(outcome.reason))
      return outcome
    })

  async function sendSigned (message: { id: string, body: string }, closing: AbortSignal): Promise<Outcome> {
    if (isRefused) return { status: null, reason: PRIVATE_ADDRESS }
    const signature = sign(message, Math.floor(Date.now() / 1000))
    return await send(message.body, { 'content-type': 'application/json', ...traceHeaders(), ...signature }, closing)
  }
}
