import { getHeapStatistics } from 'node:v8'
import underPressure from '@fastify/under-pressure'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { Overloaded } from '../../errors.js'
import { addErrors } from '../route-errors.js'

/**
 * The mean delay of the event loop from which requests are refused. A request needs about four turns of the loop, so it
 * then takes a second of the five that are promised. Each turn accepts one connection: new clients wait even longer.
 */
const MAX_LOOP_DELAY_MS = 200
/**
 * The time of one measurement. Within a shorter one, the work of a start or a long garbage collection would pass for
 * overload. A refused client is told to come back after the same time.
 */
const MEASUREMENT_MS = 5000
/** The utilization of the event loop from which it has more to do than it can. */
const MIN_UTILIZATION = 0.9
/** The share of V8's limit of the heap from which garbage is collected most of the time. At the limit V8 aborts. */
const MAX_HEAP_SHARE = 0.9

/**
 * Refuses requests of this scope with `OVERLOADED` while the process has more to do than it can, so that the accepted
 * ones are answered in time.
 */
async function overload (fastify: FastifyInstance): Promise<void> {
  fastify.addHook('onRoute', (route) => { addErrors(route, Overloaded) })
  await fastify.register(underPressure, {
    sampleInterval: MEASUREMENT_MS,
    maxEventLoopDelay: MAX_LOOP_DELAY_MS,
    eventLoopUtilizationMode: 'interval',
    maxHeapUsedBytes: getHeapStatistics().heap_size_limit * MAX_HEAP_SHARE,
    pressureHandler (_request, _reply, type, value) {
      const { eventLoopUtilized } = fastify.memoryUsage()
      if (Math.random() >= acceptedShare(type, value, eventLoopUtilized)) throw new Overloaded()
    }
  })
}

export default fp(overload, { name: 'overload' })

/**
 * The share of requests that is still accepted at this measured value and utilization (0 to 1) of the event loop. For a
 * late loop it is a part: clients that repeat a refused request at once keep it late, and none would ever be served.
 */
export function acceptedShare (type: string, value = 0, utilization = 1): number {
  if (type !== underPressure.TYPE_EVENT_LOOP_DELAY) return 0
  // A process that was stopped for a while is late, and not busy. Infinity: the loop has not turned twice since the
  // start, so there is no measurement yet.
  return utilization < MIN_UTILIZATION || value === Infinity ? 1 : MAX_LOOP_DELAY_MS / value
}
