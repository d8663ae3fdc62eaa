import { Type } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import { DatabaseUnavailable } from '../errors.js'

const Health = Type.Object({ status: Type.Literal('ok', { description: 'Always ok: else the answer is an error' }) }, { description: 'Yes', examples: [{ status: 'ok' }] })

/** Says whether the process runs (live) and whether it can serve (ready). No token needed. */
export default async function health (fastify: FastifyInstance): Promise<void> {
  fastify.get('/health/live', {
    // An empty list, since the document would otherwise say nothing of whether a token is needed.
    schema: { operationId: 'getLive', summary: 'Is the process running?', tags: ['health'], security: [], response: { 200: Health } }
  }, async () => ({ status: 'ok' }))

  fastify.get('/health/ready', {
    config: { errors: [DatabaseUnavailable] },
    schema: { operationId: 'getReady', summary: 'Can it serve requests?', tags: ['health'], security: [], response: { 200: Health } }
  }, async () => {
    await fastify.database.ping()
    return { status: 'ok' }
  })
}
