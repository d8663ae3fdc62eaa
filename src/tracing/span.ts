import {
  context, createContextKey, propagation, SpanStatusCode, trace, type Attributes, type Context, type Span,
  type SpanKind, type TextMapGetter
} from '@opentelemetry/api'

/** Creates no-op spans until an SDK is loaded. */
export const tracer = trace.getTracer('whatsapp-tenant-config')

// By this key OpenTelemetry JS suppresses spans and propagation; see its core/src/trace/suppress-tracing.ts.
const SUPPRESS_TRACING = createContextKey('OpenTelemetry SDK Context Key SUPPRESS_TRACING')

/** The headers of W3C Trace Context. `baggage` is passed on in neither direction: it may hold any values. */
const TRACE_HEADERS = ['traceparent', 'tracestate']

interface SpanDescription {
  kind: SpanKind
  /** Called only if the span is recorded. No attribute may hold a secret, a tenant id or a query string. */
  attributes: () => Attributes
}

/** Runs work in a span, which also records the type of its error. Throws what the work throws. */
export function inSpan<T> (
  name: string, { kind, attributes }: SpanDescription, work: (span: Span) => Promise<T>
): Promise<T> {
  const span = tracer.startSpan(name, { kind })
  // Without an SDK a span costs no promise.
  return span.isRecording() ? recorded(span, attributes, work) : work(span)
}

async function recorded<T> (
  span: Span, attributes: () => Attributes, work: (span: Span) => Promise<T>
): Promise<T> {
  span.setAttributes(attributes())
  return await context.with(trace.setSpan(context.active(), span), work, undefined, span)
    .catch((err: unknown) => {
      recordFailure(span, errorType(err))
      throw err
    })
    .finally(() => { span.end() })
}

/** Marks a span as failed. */
export function recordFailure (span: Span, type: string): void {
  span.setAttribute('error.type', type)
  span.setStatus({ code: SpanStatusCode.ERROR })
}

/** The code of an error, such as a SQLSTATE or one of ours, else its class: a message may hold values. */
export function errorType (err: unknown): string {
  if (!(err instanceof Error)) return typeof err
  return 'code' in err && typeof err.code === 'string' ? err.code : err.name
}

type Headers = Record<string, string | string[] | undefined>

const requestHeaders: TextMapGetter<Headers> = {
  get: (headers, name) => TRACE_HEADERS.includes(name) ? headers[name] : undefined,
  keys: Object.keys
}

/** Returns the context of a request, by the trace that its headers name. */
export function extractTrace (headers: Headers): Context {
  return propagation.extract(context.active(), headers, requestHeaders)
}

/** Returns the headers that name the active trace; none without an SDK. */
export function traceHeaders (): Record<string, string> {
  const headers: Record<string, string> = {}
  propagation.inject(context.active(), headers, {
    set: (carrier, key, value) => { if (TRACE_HEADERS.includes(key)) carrier[key] = value }
  })
  return headers
}

/** Runs work whose requests get no trace headers, not even from an instrumentation of `fetch`. */
export async function withoutPropagation<T> (work: () => Promise<T>): Promise<T> {
  return await context.with(context.active().setValue(SUPPRESS_TRACING, true), work)
}
