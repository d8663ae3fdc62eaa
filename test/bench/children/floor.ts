import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import pg from 'pg'
import { cpu, serve, settings } from './serve.js'
import { columns, types } from './columns.js'

// The minimum on this stack: a verified token, one prepared statement, JSON with compiled schemas.
// It masks, opens, seals and logs nothing.
const pool = new pg.Pool({ connectionString: settings.DATABASE_URL, max: 10, types })
const fastify = Fastify()
await fastify.register(fastifyJwt, { secret: settings.JWT_SECRET, verify: { algorithms: ['HS256'] } })
fastify.addHook('onRequest', async (request) => { await request.jwtVerify() })

const text = { type: ['string', 'null'] }
const flag = { type: 'boolean' }
const row = {
  type: 'object',
  properties: {
    ...Object.fromEntries(columns.map((name) => [name, text])),
    id: { type: 'integer' },
    is_active: flag,
    onboarding_completed: flag
  }
}
const response = { 200: row }

interface Body { callback_url: string, verify_token: string, access_token: string }
const body = (...names: Array<keyof Body>) => ({
  type: 'object',
  properties: Object.fromEntries(names.map((name) => [name, { type: 'string', maxLength: 4096 }])),
  required: names,
  additionalProperties: false
})

declare module '@fastify/jwt' {
  interface FastifyJWT { user: { tenant_id: string } }
}

fastify.get('/config', { schema: { response } }, async ({ user: { tenant_id } }) => (await pool.query({
  name: 'get', text: `select ${columns} from tenant_configs where tenant_id = $1`, values: [tenant_id]
})).rows[0])

fastify.put<{ Body: Body }>('/config', {
  schema: { body: body('callback_url', 'verify_token'), response }
}, async ({ user: { tenant_id }, body }) => (await pool.query({
  name: 'put',
  text: `update tenant_configs set callback_url = $2, verify_token = $3 where tenant_id = $1 returning ${columns}`,
  values: [tenant_id, body.callback_url, body.verify_token]
})).rows[0])

fastify.put<{ Body: Body }>('/token', {
  schema: { body: body('access_token'), response }
}, async ({ user: { tenant_id }, body }) => (await pool.query({
  name: 'token',
  text: `update tenant_configs set access_token = $2, token_expires_at = null, onboarding_completed = false,
    last_verified_at = null where tenant_id = $1 returning ${columns}`,
  values: [tenant_id, body.access_token]
})).rows[0])

await fastify.listen({ port: 0, host: '127.0.0.1' })

serve({ cpu, port: () => Number(new URL(fastify.listeningOrigin).port) })
