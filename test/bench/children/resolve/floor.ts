import { createHash } from 'node:crypto'
import Fastify from 'fastify'
import { cpu, serve, settings } from '../serve.js'

// The minimum: the hash of the key is looked up, and the answer is a constant.
const hashOf = (key: string) => createHash('sha256').update(key).digest('base64url')
const keys = new Map([[hashOf(settings.JWT_SECRET), 'a service']])
const fastify = Fastify()
let answer = ''

fastify.addHook('onRequest', async ({ headers: { authorization = '' } }, reply) => {
  if (!keys.has(hashOf(authorization.slice('Bearer '.length)))) await reply.code(401).send()
})
fastify.get('/resolve', async (_request, reply) => await reply.type('application/json; charset=utf-8').send(answer))

await fastify.listen({ port: 0, host: '127.0.0.1' })

serve({
  cpu,
  port: () => Number(new URL(fastify.listeningOrigin).port),
  answerOf: (length) => {
    answer = JSON.stringify('x'.repeat(length - 2))
    return length
  }
})
