import jwt from '@fastify/jwt'
import fastifyPostgres from '@fastify/postgres'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import t from './run/tap.js'
import whatsappTenantConfig, { buildApp } from '../src/app.js'
import { Unauthenticated } from '../src/errors.js'
import { baseEnv, createDatabase } from './helper.js'

const config = '/api/v1/tenant/config'
const databaseUrl = await createDatabase(t)
const env = { ...baseEnv, DATABASE_URL: databaseUrl }

/** A server with its own parsers and handlers, which registers its own plugins before or after ours. */
async function host (t: Test, order: 'before' | 'after'): Promise<FastifyInstance> {
  const fastify = Fastify({
    ajv: { customOptions: { removeAdditional: 'all', coerceTypes: 'array', useDefaults: true } },
    bodyLimit: 1000
  })
  t.teardown(() => fastify.close())
  fastify.setErrorHandler(async (err: Error, _request, reply) => { reply.code(418); return { theirs: err.message } })
  fastify.setNotFoundHandler(async (_request, reply) => { reply.code(410); return { theirs: 'not found' } })
  fastify.setSchemaErrorFormatter(() => new Error('formatted by them'))
  fastify.addContentTypeParser(
    'text/csv',
    { parseAs: 'string' },
    async (_request: unknown, body: string) => ({ csv: body })
  )
  const theirs = async () => {
    await fastify.register(jwt, { secret: 'their own secret, for their own tokens' })
    await fastify.register(fastifyPostgres, { connectionString: databaseUrl })
  }
  if (order === 'before') await theirs()
  await fastify.register(whatsappTenantConfig, { env })
  if (order === 'after') await theirs()
  const schema = {
    body: {
      type: 'object',
      properties: {
        n: { type: 'integer' },
        many: { type: 'array', items: { type: 'string' } },
        d: { type: 'string', default: 'x' }
      }
    }
  }
  fastify.post('/theirs', { schema }, async ({ body }) => body)
  fastify.post('/theirs/csv', async ({ body }) => body)
  fastify.get('/theirs/fails', async () => { throw new Error('their fault') })
  await fastify.register(async (scope) => {
    fastify.auth.guardTenant(scope)
    scope.get('/theirs/guarded', async ({ tenant }) => tenant)
  })
  fastify.get('/theirs/me', async (request) => await request.jwtVerify())
  fastify.get('/theirs/rows', async () => (await fastify.pg.query('select 1 as one')).rows)
  await fastify.ready()
  return fastify
}

for (const order of ['before', 'after'] as const) {
  await t.test(`in a host server that registers its plugins ${order} ours, both keep their own rules`, async (t) => {
    const fastify = await host(t, order)
    const authorization = `Bearer ${fastify.auth.mint({ tenantId: `acme-${order}` }, 60)}`
    const send = async (payload: object) => {
      const { statusCode, body } = await fastify.inject({
        method: 'PUT',
        url: config,
        headers: { authorization },
        payload
      })
      return [statusCode, JSON.parse(body).code]
    }

    // The service keeps its own rules.
    t.equal(
      (await fastify.inject({
        method: 'POST',
        url: config,
        headers: { authorization },
        payload: { waba_id: '1', access_token: 'x'.repeat(2000) }
      })).statusCode,
      201
    )
    const { headers, body } = await fastify.inject({ url: config, headers: { authorization } })
    t.match(JSON.parse(body), { waba_id: '1', access_token: '****xxxx' })
    t.equal(headers['cache-control'], 'no-store')
    t.strictSame(await send({ waba_idd: '1' }), [400, 'VALIDATION_FAILED'])
    t.strictSame(await send({ waba_id: 1 }), [400, 'VALIDATION_FAILED'])
    t.strictSame(await send({ waba_id: ['1'] }), [400, 'VALIDATION_FAILED'])
    for (const [url, status] of [
      [config, 401], ['/api/v1/tenant/nowhere', 401], ['/health/ready', 200], ['/docs/json', 200]
    ] as const) {
      t.equal((await fastify.inject(url)).statusCode, status, url)
    }
    const lost = await fastify.inject({ url: '/api/v1/tenant/nowhere', headers: { authorization } })
    t.match(lost.json(), { status: 404, code: 'ROUTE_NOT_FOUND' })
    const csv = await fastify.inject({
      method: 'PUT',
      url: config,
      headers: { authorization, 'content-type': 'text/csv' },
      payload: 'waba_id'
    })
    t.match(csv.json(), { status: 415, code: 'UNSUPPORTED_MEDIA_TYPE' })
    const theirToken = `Bearer ${fastify.jwt.sign({ tenant_id: `acme-${order}`, role: 'admin' }, { expiresIn: 60 })}`
    t.equal((await fastify.inject({ url: config, headers: { authorization: theirToken } })).statusCode, 401)
    t.match(await fastify.configLoader.getWhatsappConfig(`acme-${order}`), {
      waba_id: '1',
      access_token: 'x'.repeat(2000)
    })

    // The host server keeps its own rules.
    const post = async (payload: object) =>
      (await fastify.inject({ method: 'POST', url: '/theirs', payload })).json<unknown>()
    t.strictSame(await post({ n: '7', many: 'one', more: true }), { n: 7, many: ['one'], d: 'x' })
    t.strictSame(await post({ n: 'x' }), { theirs: 'formatted by them' })
    t.match(await post({ long: 'x'.repeat(2000) }), { theirs: /too large/ })
    t.strictSame(
      (await fastify.inject({
        method: 'POST',
        url: '/theirs/csv',
        headers: { 'content-type': 'text/csv' },
        payload: 'a,b'
      })).json(),
      { csv: 'a,b' }
    )
    t.strictSame((await fastify.inject('/theirs/fails')).json(), { theirs: 'their fault' })
    const nowhere = await fastify.inject('/nowhere')
    t.strictSame([nowhere.statusCode, nowhere.json()], [410, { theirs: 'not found' }])
    t.match(
      (await fastify.inject({ url: '/theirs/me', headers: { authorization: theirToken } })).json(),
      { role: 'admin' }
    )
    t.equal(
      (await fastify.inject({ url: '/theirs/me', headers: { authorization } })).statusCode,
      418,
      'the host refuses a token of the service'
    )
    t.strictSame((await fastify.inject('/theirs/guarded')).json(), { theirs: new Unauthenticated().message })
    t.strictSame(
      (await fastify.inject({ url: '/theirs/guarded', headers: { authorization } })).json(),
      { id: `acme-${order}`, userId: null, scopes: [] }
    )
    t.strictSame((await fastify.inject('/theirs/rows')).json(), [{ one: 1 }])
  })
}

await t.test('a build that fails leaves nothing open', async (t) => {
  await t.rejects(buildApp({ ...env, JWT_SECRET: 'short' }), /JWT_SECRET/)
  await t.rejects(buildApp({ ...env, DATABASE_URL: 'postgres://127.0.0.1:1/none' }))
})

await t.test('TRUST_PROXY decides which address is logged for a request', async (t) => {
  for (const [setting, ip] of [
    ['false', '127.0.0.1'], ['true', '1.1.1.1'], ['1', '2.2.2.2'], ['127.0.0.1', '2.2.2.2'],
    ['127.0.0.0/8,2.2.2.2', '1.1.1.1']
  ] as const) {
    let log = ''
    const logTo = { write: (line: string) => { log += line } }
    const fastify = await buildApp({ ...env, TRUST_PROXY: setting }, { logTo })
    t.teardown(() => fastify.close())
    await fastify.inject({ url: '/health/live', headers: { 'x-forwarded-for': '1.1.1.1, 2.2.2.2' } })
    t.match(log, `"ip":"${ip}"`, setting)
  }
})
