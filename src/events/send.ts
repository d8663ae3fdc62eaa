import http from 'node:http'
import https from 'node:https'
import type { LookupFunction } from 'node:net'

/** The result of an attempt: the answer, or `status: null` and the reason why there is none, such as ECONNREFUSED. */
export interface Outcome {
  status: number | null
  /** The header `retry-after` of the answer. */
  retryAfter?: string | undefined
  reason?: string | undefined
}

/** Posts a body once; `closing` aborts that. */
export type Send = (body: string, headers: Record<string, string>, closing: AbortSignal) => Promise<Outcome>

interface DirectSendOptions { target: URL, timeoutMs: number, lookup: LookupFunction }

/** Returns the function that posts without a proxy. Each attempt has a connection of its own. */
export function createDirectSend ({ target, timeoutMs, lookup }: DirectSendOptions): Send {
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
    }, timeoutMs)
    attempt.on('error', ({ code }: NodeJS.ErrnoException) => { resolve({ status: null, reason: code }) })
    attempt.on('close', () => {
      clearTimeout(deadline)
      // Node closes the connection without an error after an answer that switches protocols.
      resolve({ status: null, reason: 'closed' })
    })
    attempt.end(body)
  })
}
