import dns from 'node:dns'
import http from 'node:http'
import https from 'node:https'
import type { LookupFunction } from 'node:net'
import { SpanKind } from '@opentelemetry/api'
import type { Outbound } from '../outbound/outbound.js'
import { inSpan, recordFailure, traceHeaders } from '../tracing/span.js'
import type { TenantEvent } from './outbox.sql.js'
import { createProxiedSend } from './proxied-post.js'
import { isPrivateAddress, PRIVATE_ADDRESS, publicOnly } from './public-address.js'
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

/** The result of an attempt: the answer, or `status: null` and the reason why there is none, such as ECONNREFUSED. */
export interface Outcome {
  status: number | null
  /** The header `retry-after` of the answer. */
  retryAfter?: string | undefined
  reason?: string | undefined
}

export type Post = ReturnType<typeof createPoster>

/** Posts a body once; `closing` aborts that. */
export type Send = (body: string, headers: Record<string, string>, closing: AbortSignal) => Promise<Outcome>

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
    ? createDirectSend(target, safeLookup)
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

/** Each attempt has a connection of its own. */
function createDirectSend (target: URL, lookup: LookupFunction): Send {
  const { request } = target.protocol === 'https:' ? https : http
  const options = { method: 'POST', agent: false, lookup } as const
  return async (body, headers, closing) => await new Promise<Outcome>((resolve) => {
    const attempt = request(target, { ...options, headers, signal: closing }, (reply) => {
      // The body is not read: it may be endless, or break off.
      reply.destroy()
      resolve({ status: Number(reply.statusCode), retryAfter: reply.headers['retry-after'] })
    })
    const deadline = setTimeout(() => {
      attempt.destroy(Object.assign(new Error('no answer in time'), { code: 'ETIMEDOUT' }))
    }, TIMEOUT_MS)
    attempt.on('error', ({ code }: NodeJS.ErrnoException) => { resolve({ status: null, reason: code }) })
    attempt.on('close', () => {
      clearTimeout(deadline)
      // Node closes the connection without an error after an answer that switches protocols.
      resolve({ status: null, reason: 'closed' })
    })
    attempt.end(body)
  })
}
