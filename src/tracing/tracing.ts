import { context, isSpanContextValid, SpanKind, trace, type Context } from '@opentelemetry/api'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { extractTrace, recordFailure, tracer } from './span.js'

/** Creates the hooks that put each request into a span of its own, while an SDK is loaded. */
export function createRequestSpans () {
  const contexts = new WeakMap<FastifyRequest, Context>()

  return { start, resume }

  /** Starts the span; it ends with the answer, or with its connection. */
  function start (request: FastifyRequest, { raw: response }: FastifyReply, done: () => void): void {
    // An instrumentation of node:http has read the headers already, and made the span of the request.
    const isInside = trace.getActiveSpan() !== undefined
    const parent = isInside ? context.active() : extractTrace(request.headers)
    const { method, routeOptions: { url: route } } = request
    const name = route === undefined ? method : `${method} ${route}`
    const span = tracer.startSpan(name, { kind: isInside ? SpanKind.INTERNAL : SpanKind.SERVER }, parent)
    // An SDK gives a valid context to spans that it does not sample, too: the spans inside are not sampled either.
    if (!isSpanContextValid(span.spanContext())) return done()
    if (span.isRecording()) {
      span.setAttributes({ 'http.request.method': method, 'http.route': route })
      response.once('close', () => {
        span.setAttribute('http.response.status_code', response.statusCode)
        if (!response.writableEnded) recordFailure(span, 'aborted')
        else if (response.statusCode >= 500) recordFailure(span, String(response.statusCode))
        span.end()
      })
    }
    const active = trace.setSpan(parent, span)
    contexts.set(request, active)
    context.with(active, done)
  }

  /** Enters the span again: the events that end the reading of a body have the context of the connection. */
  function resume (request: FastifyRequest, _reply: FastifyReply, done: () => void): void {
    const active = contexts.get(request)
    if (active === undefined) done()
    else context.with(active, done)
  }
}

/** Puts the requests of this scope into spans. */
async function tracing (fastify: FastifyInstance): Promise<void> {
  const { start, resume } = createRequestSpans()
  fastify.addHook('onRequest', start)
  fastify.addHook('preValidation', resume)
}

export default fp(tracing, { name: 'tracing' })
