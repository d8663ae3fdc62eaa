import type { FastifyError } from '@fastify/error'
import { SpanKind, type Span } from '@opentelemetry/api'
import type { StaticDecode, TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import {
  type ErrorClass, MetaAppRejected, MetaExchangeUnknown, MetaRateLimited, MetaTimeout, MetaTokenInvalid,
  MetaUnavailable, withGraphDetails
} from '../errors.js'
import { errorType, inSpan, withoutPropagation } from '../tracing/span.js'
import { limitScopeOf, mapGraphError, type MappedError } from './error-map.js'
import { createHttpClient, type HttpOptions, type NoReply } from './http-client.js'
import { createRateLimits, type LimitSubject } from './rate-limits.js'
import { ErrorReply, read, Token } from './replies.js'
import type { Call, GraphRequest } from './types.js'

/** The details of a failed call, as they came: not all of them may be logged. */
interface FailureContext {
  sent: boolean
  /** The HTTP status of the answer. */
  status?: number
  meta_code?: number | null | undefined
  meta_subcode?: number | null | undefined
  fbtrace_id?: unknown
  graph_version?: unknown
  /** Why no answer came. */
  reason?: unknown
  /** The end of the block of such calls (Unix ms); 0 without one. */
  blocked_until?: number
}

/** The Graph API, the timeout of a call, and the log. */
export interface GraphOptions extends HttpOptions {
  /** Milliseconds each call may take, reading its body included. */
  timeoutMs: number
  /** Once it is aborted, a new call throws its reason. */
  closing?: AbortSignal
  /** Pino-like; gets one line per call. */
  log?: { info (fields: object, message: string): void, warn (fields: object, message: string): void }
}

/** The end of a call: `outcome` is `ok` or the code of its error. */
export interface CallEnd { call: string, outcome: string, seconds: number }

/** Makes calls, and maps their failures to our errors. */
export type GraphCalls = ReturnType<typeof createGraphCalls>

/** Makes calls of the Graph API, each once. No error and no log line holds a secret, Meta's words or a query string. */
export function createGraphCalls ({ timeoutMs, closing, log, ...options }: GraphOptions) {
  const sendHttp = createHttpClient(options)
  const { blockedUntil, record, ...limits } = createRateLimits()
  const listeners = new Set<(end: CallEnd) => void>()

  return { send, onCall, assertUnblocked, failCall, pathSegment, timeoutSignal, ...limits }

  /** Calls `listener` at the end of each call. */
  function onCall (listener: (end: CallEnd) => void): void {
    listeners.add(listener)
  }

  /** Returns a timeout as long as that of one call, for several calls to share. */
  function timeoutSignal (): AbortSignal {
    return AbortSignal.timeout(timeoutMs)
  }

  /** Encodes an id as one segment of a path; throws the error class for one that cannot be encoded. */
  function pathSegment (call: Call, id: string, throws: ErrorClass): string {
    // A URL parser resolves `.` and `..` in any encoding.
    if (/^\.{0,2}$/.test(id)) throw failCall(call, { throws }, { sent: false })
    return encodeURIComponent(id)
  }

  /** Throws MetaRateLimited while Meta blocks such calls: a call during a block lengthens it. */
  function assertUnblocked (call: Call & Pick<GraphRequest, 'app' | 'account' | 'credential' | 'token'>): void {
    const until = blockedUntil(limitSubjectOf(call))
    const context = { sent: false, reason: 'blocked', blocked_until: until }
    if (until > 0) throw failCall(call, { throws: MetaRateLimited }, context)
  }

  /**
   * Makes one call.
   *
   * @param schema the schema of a good answer
   * @returns the answer's JSON, read by the schema
   * @throws MetaRateLimited and ServiceClosing with nothing sent, MetaTimeout, MetaUnavailable, MetaExchangeUnknown for
   * a code, MetaAppRejected or MetaTokenInvalid for a token that no header can carry, and the error of `mapGraphError`
   */
  async function send<T extends TSchema> (request: GraphRequest, schema: T): Promise<StaticDecode<T>> {
    const { name: call, method } = request
    const attributes = () => ({ 'http.request.method': method, 'server.address': new URL(options.baseUrl).hostname })
    const startedAt = performance.now()
    const report = (outcome: string) => {
      const seconds = (performance.now() - startedAt) / 1000
      for (const listener of listeners) listener({ call, outcome, seconds })
    }
    try {
      const answer = await inSpan(`meta ${call}`, { kind: SpanKind.CLIENT, attributes }, async (span) =>
        await sendInSpan(span, request, schema))
      report('ok')
      return answer
    } catch (err) {
      report(errorType(err))
      throw err
    }
  }

  async function sendInSpan<T extends TSchema> (
    span: Span, request: GraphRequest, schema: T
  ): Promise<StaticDecode<T>> {
    if (request.token !== undefined && !Value.Check(Token, request.token)) {
      const throws = request.subject === 'app' ? MetaAppRejected : MetaTokenInvalid
      throw failCall(request, { throws }, { sent: false })
    }
    closing?.throwIfAborted()
    assertUnblocked(request)
    const { signal = timeoutSignal() } = request
    const reply = await withoutPropagation(async () => await sendHttp(request, request.app, signal))
    if ('wasSent' in reply) throw failUnanswered(request, reply, signal.aborted)
    span.setAttribute('http.response.status_code', reply.status)
    const answer = reply.isOk ? read(schema, reply.body) : undefined
    const error = answer === undefined ? read(ErrorReply, reply.body)?.error : undefined
    const subject = limitSubjectOf(request)
    if (request.isTokenUnchecked && !reply.isOk) delete subject.app
    record(subject, reply.headers, limitScopeOf(reply.status, error))
    // For an expired version Meta serves the oldest one it still has, and names it only here.
    const served = reply.headers.get('facebook-api-version')
    if (answer !== undefined) {
      log?.info({ call: request.name, graph_version: loggableWord(served) }, 'a call of the Graph API succeeded')
      return answer
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
   * Logs a failed call. Returns the error to throw, with its advice if it has one; a MetaRateLimited has `retry_after`
   * in seconds.
   */
  function failCall (call: Call, { throws: Failure, advice }: MappedError, context: FailureContext): FastifyError {
    const error = Object.assign(new Failure(), advice === undefined ? {} : { advice })
    if (error instanceof MetaRateLimited) Object.assign(error, { retry_after: secondsUntil(context.blocked_until) })
    const known = {
      meta_code: context.meta_code ?? undefined,
      meta_subcode: context.meta_subcode ?? undefined,
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

/** Returns the subject of the limits that a call counts against. */
function limitSubjectOf (
  { app, account, token, credential = token }: Pick<GraphRequest, 'app' | 'account' | 'credential' | 'token'>
): LimitSubject {
  return { app: app?.id, account, credential }
}

/** At least one second: an earlier retry would be refused again. */
function secondsUntil (time = 0): number {
  return Math.max(1, Math.ceil((time - Date.now()) / 1000))
}

/** Returns a value that looks like an id or a version: a sentence may quote what we sent. */
function loggableWord (value: unknown): string | undefined {
  return typeof value === 'string' && /^[\w.+/=-]{1,30}$/.test(value) ? value : undefined
}
