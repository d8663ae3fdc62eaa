import { Type } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import { DatabaseUnavailable, ServiceClosing } from '../errors.js'

const Health = Type.Object({
  status: Type.Literal('ok', { description: 'Always ok: else the answer is an error' })
}, { description: 'Yes', examples: [{ status: 'ok' }] })

// An empty `security` tells clients that no token is needed; without it the document would leave that open.
const common = { tags: ['health'], security: [], response: { 200: Health } }

/** The probes: the process runs (live), and it can serve (ready). */
export default async function health (fastify: FastifyInstance): Promise<void> {
  fastify.get('/health/live', {
    schema: { operationId: 'getLive', summary: 'Is the process running?', ...common }
  }, async () => ({ status: 'ok' }))

  fastify.get('/health/ready', {
    config: { errors: [DatabaseUnavailable, ServiceClosing] },
    schema: { operationId: 'getReady', summary: 'Can it serve requests?', ...common }
  }, async () => {
    fastify.readiness.assertStaying()
    await fastify.database.ping()
    return { status: 'ok' }
  })
}
