import dns from 'node:dns'
import type { LookupFunction } from 'node:net'
import { SpanKind } from '@opentelemetry/api'
import type { Outbound } from '../outbound/outbound.js'
import { inSpan, recordFailure, traceHeaders } from '../tracing/span.js'
import type { TenantEvent } from './outbox.sql.js'
import { createProxiedSend } from './proxied-send.js'
import { isPrivateAddress, PRIVATE_ADDRESS, publicOnly } from './public-address.js'
import { createDirectSend, type Outcome } from './send.js'
import { createSigner } from './signature.js'

/** The timeout of a delivery, well below the lease of an event in outbox.sql.ts. */
const TIMEOUT_MS = 10_000

interface PosterOptions {
  /** The URL that events are sent to. */
  url: string
  /** The setting EVENTS_WEBHOOK_SECRET. */
  secrets: string
  /** Whether the URL may lead to an address that is not public. */
  allowsPrivate: boolean
  lookup?: LookupFunction
  /** The way out; without one every connection is direct. */
  outbound?: Pick<Outbound, 'fetchWith'>
}

export type Post = ReturnType<typeof createPoster>

/**
 * Returns the function that posts an event once: the JSON `{id, type, tenant_id, from, to, reason, at}`, signed. No
 * redirect is followed. The address of each direct connection is checked; in front of a proxy, that of each attempt.
 */
export function createPoster ({ url, secrets, allowsPrivate, lookup = dns.lookup, outbound }: PosterOptions) {
  const target = new URL(url)
  const isRefused = !allowsPrivate && isPrivateAddress(target)
  const safeLookup = allowsPrivate ? lookup : publicOnly(lookup)
  const fetch = outbound?.fetchWith(target, safeLookup)
  const send = fetch === undefined
    ? createDirectSend({ target, timeoutMs: TIMEOUT_MS, lookup: safeLookup })
    : createProxiedSend({ target, timeoutMs: TIMEOUT_MS, fetch, lookup: allowsPrivate ? undefined : safeLookup })
  const sign = createSigner(secrets)
  const attributes = () => ({ 'http.request.method': 'POST', 'server.address': target.hostname })

  /** @param closing aborts the attempt */
  return async function post (event: TenantEvent, closing: AbortSignal): Promise<Outcome> {
    return await inSpan('deliver event', { kind: SpanKind.CLIENT, attributes }, async (span) => {
      const outcome = await sendSigned(event, closing)
      if (outcome.status !== null) span.setAttribute('http.response.status_code', outcome.status)
      else recordFailure(span, String(outcome.reason))
      return outcome
    })
  }

  async function sendSigned (event: TenantEvent, closing: AbortSignal): Promise<Outcome> {
    if (isRefused) return { status: null, reason: PRIVATE_ADDRESS }
    const { id, type, tenant_id, from, to, reason, at } = event
    const body = JSON.stringify({ id, type, tenant_id, from, to, reason, at })
    const signature = sign({ id, body }, Math.floor(Date.now() / 1000))
    return await send(body, { 'content-type': 'application/json', ...traceHeaders(), ...signature }, closing)
  }
}
