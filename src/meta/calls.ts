import type { FastifyError } from '@fastify/error'
import type { Static, TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import {
  MetaAppRejected, MetaExchangeUnknown, MetaRateLimited, MetaTimeout, MetaTokenInvalid, MetaUnavailable, withGraphDetails
} from '../errors.js'
import { headerToken } from '../schemas/fields.js'
import { ErrorReply, limitScopeOf, mapGraphError, type MappedError } from './error-map.js'
import { createHttpClient, NoReply, type HttpOptions } from './http-client.js'
import { createRateLimits, type LimitSubject } from './rate-limits.js'
import type { Call, GraphRequest } from './types.js'

/** An access token. A bearer header carries no more than this, and fetch would call the rest a network failure. */
export const Token = headerToken(4096)

/** What is known of a call that failed; not all of it is fit to be logged as it is. */
interface FailureContext {
  sent: boolean
  /** The HTTP status of the answer. */
  status?: number
  meta_code?: unknown
  meta_subcode?: unknown
  fbtrace_id?: unknown
  graph_version?: unknown
  /** Why no answer came. */
  reason?: unknown
  /** Until when calls like it are blocked, as Unix ms. */
  blocked_until?: number
}

/** How the Graph API is reached, how long a call may take, and where failures are logged. */
export interface GraphOptions extends HttpOptions {
  /** Milliseconds each call may take, reading its body included. */
  timeoutMs: number
  /** No call begins once this is aborted: its reason is thrown instead. */
  closing?: AbortSignal
  /** Pino-like; gets one line per call. */
  log?: { info (fields: object, message: string): void, warn (fields: object, message: string): void }
}

/** Makes calls, and maps their failures to our errors. */
export type GraphCalls = ReturnType<typeof createGraphCalls>

/** Makes calls of the Graph API, each once. No error and no log line holds a secret, Meta's words or a query string. */
export function createGraphCalls ({ timeoutMs, closing, log, ...options }: GraphOptions) {
  const sendHttp = createHttpClient(options)
  const { utilizationOf, blockedApps, blockedUntil, record } = createRateLimits()

  return { send, assertUnblocked, failCall, timeoutSignal, utilizationOf, blockedApps }

  /** The timeout of one call, for several together. */
  function timeoutSignal (): AbortSignal {
    return AbortSignal.timeout(timeoutMs)
  }

  /** Throws MetaRateLimited when Meta takes no such call yet: one that is made all the same lengthens the block. */
  function assertUnblocked (call: Call & Pick<GraphRequest, 'app' | 'account' | 'credential' | 'token'>): void {
    const until = blockedUntil(limitSubjectOf(call))
    if (until > 0) throw failCall(call, { throws: MetaRateLimited }, { sent: false, reason: 'blocked', blocked_until: until })
  }

  /**
   * Makes one call, unless Meta takes none.
   *
   * @param schema the schema of a good answer
   * @returns the answer's JSON
   * @throws MetaRateLimited and ServiceClosing with nothing sent, MetaTimeout, MetaUnavailable, MetaExchangeUnknown for a
   * code, MetaAppRejected or MetaTokenInvalid for a token no header can carry, and the error of `mapGraphError`
   */
  async function send<T extends TSchema> (request: GraphRequest, schema: T): Promise<Static<T>> {
    if (request.token !== undefined && !Value.Check(Token, request.token)) {
      throw failCall(request, { throws: request.subject === 'app' ? MetaAppRejected : MetaTokenInvalid }, { sent: false })
    }
    closing?.throwIfAborted()
    assertUnblocked(request)
    const { signal = timeoutSignal() } = request
    const reply = await sendHttp(request, request.app, signal).catch((err: unknown) => {
      throw err instanceof NoReply ? failUnanswered(request, err, signal.aborted) : err
    })
    const error = Value.Check(ErrorReply, reply.body) ? reply.body.error : undefined
    const subject = limitSubjectOf(request)
    if (request.isTokenUnchecked && !reply.isOk) delete subject.app
    record(subject, reply.headers, limitScopeOf(reply.status, error))
    // Meta answers for an expired version with the oldest one it still serves, and says so nowhere else.
    const served = reply.headers.get('facebook-api-version')
    if (reply.isOk && Value.Check(schema, reply.body)) {
      log?.info({ call: request.name, graph_version: loggableWord(served) }, 'a call of the Graph API succeeded')
      return reply.body
    }
    throw failCall(request, mapGraphError(request.subject, reply.status, error), {
      sent: true,
      status: reply.status,
      meta_code: error?.code,
      meta_subcode: error?.error_subcode,
      fbtrace_id: error?.fbtrace_id ?? reply.headers.get('x-fb-trace-id'),
      graph_version: served,
      blocked_until: blockedUntil(limitSubjectOf(request))
    })
  }

  function failUnanswered (request: GraphRequest, { wasSent, reason }: NoReply, isTimeout: boolean): FastifyError {
    const isUnknown = request.subject === 'code' && wasSent
    const throws = isUnknown ? MetaExchangeUnknown : isTimeout ? MetaTimeout : MetaUnavailable
    return failCall(request, { throws }, { sent: wasSent, reason })
  }

  /**
   * Logs that a call failed. Returns the error to throw, with its advice where there is one, and with `retry_after` in
   * seconds where it is MetaRateLimited.
   */
  function failCall (call: Call, { throws: Failure, advice }: MappedError, context: FailureContext): FastifyError {
    const error = Object.assign(new Failure(), advice === undefined ? {} : { advice })
    if (error instanceof MetaRateLimited) Object.assign(error, { retry_after: secondsUntil(context.blocked_until) })
    const known = {
      meta_code: loggableNumber(context.meta_code),
      meta_subcode: loggableNumber(context.meta_subcode),
      fbtrace_id: loggableWord(context.fbtrace_id)
    }
    log?.warn({
      call: call.name,
      outcome: error.code,
      status: context.status,
      ...known,
      graph_version: loggableWord(context.graph_version),
      reason: context.reason
    }, 'a call of the Graph API failed')
    const { meta_code = null, meta_subcode = null, fbtrace_id = null } = known
    return withGraphDetails(error, { sent: context.sent, meta_code, meta_subcode, fbtrace_id })
  }
}

/** What Meta counts a call against. */
function limitSubjectOf (
  { app, account, token, credential = token }: Pick<GraphRequest, 'app' | 'account' | 'credential' | 'token'>
): LimitSubject {
  return { app: app?.id, account, credential }
}

/** At least one second; a client that came earlier would be refused again. */
function secondsUntil (time = 0): number {
  return Math.max(1, Math.ceil((time - Date.now()) / 1000))
}

function loggableNumber (value: unknown): number | undefined {
  return Number.isSafeInteger(value) ? Number(value) : undefined
}

/* What is logged of a reply is an id or a version by its looks, never a sentence that may quote what we sent. */
function loggableWord (value: unknown): string | undefined {
  return typeof value === 'string' && /^[\w.+/=-]{1,30}$/.test(value) ? value : undefined
}
