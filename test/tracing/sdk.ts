import { context, propagation, trace, type Attributes } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } from '@opentelemetry/core'
import {
  BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor, type ReadableSpan
} from '@opentelemetry/sdk-trace-base'

/** The SDK of this process: a test that loads it needs a process of its own. */
const exporter = new InMemorySpanExporter()

/** Loads the SDK, with the propagators of its default. */
export function loadSdk (): void {
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }))
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  propagation.setGlobalPropagator(new CompositePropagator({
    propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()]
  }))
}

/** All spans that have ended so far. */
export const spans = (): ReadableSpan[] => exporter.getFinishedSpans()

/** The only span with this name in a trace. */
export function spanOf (traceId: string, name: string): ReadableSpan {
  const [span, ...others] = spans().filter((span) => span.name === name && span.spanContext().traceId === traceId)
  if (span === undefined || others.length > 0) throw new Error(`${others.length} more spans ${name}, or none`)
  return span
}

/** The attributes of a span, which include the type of its error. */
export const attributesOf = ({ attributes }: ReadableSpan): Attributes => ({ ...attributes })

let traces = 0

/** A new trace of a caller: its id, and the header that names it. */
export function callerTrace ({ sampled = true } = {}) {
  const traceId = String(++traces).padStart(32, '0')
  const spanId = '00000000000000aa'
  return { traceId, spanId, headers: { traceparent: `00-${traceId}-${spanId}-0${Number(sampled)}` } }
}
