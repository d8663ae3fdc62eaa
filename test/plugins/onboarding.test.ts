import { drizzle } from 'drizzle-orm/node-postgres'
import Fastify from 'fastify'
import fp from 'fastify-plugin'
import { type Test, test } from 'tap'
import { DatabaseUnavailable, PhoneNumberTaken } from '../../src/errors.js'
import env from '../../src/plugins/env.js'
import metaGraph from '../../src/plugins/meta-graph.js'
import onboarding, { createOnboarding } from '../../src/plugins/onboarding.js'
import { createTenantConfigs, type ProvenIdentity, type TenantConfigRow } from '../../src/plugins/tenant-configs.js'
import { createVault } from '../../src/plugins/vault.js'
import { faults } from '../graph/faults.js'
import { app, standIn } from './meta-wire.js'

const keyRing = `k1:${Buffer.alloc(32, 1).toString('base64')}`
const vault = createVault({ keyRing })
const NOW = '2026-11-23T05:55:00.123Z'
const emptyRow: TenantConfigRow = {
  id: 1,
  tenant_id: 'acme',
  user_id: null,
  waba_id: null,
  phone_number_id: null,
  access_token: null,
  fb_app_id: null,
  fb_app_secret: null,
  callback_url: null,
  redirect_url: null,
  verify_token: null,
  token_expires_at: null,
  refresh_token: null,
  is_active: true,
  onboarding_completed: false,
  onboarded_at: null,
  last_verified_at: null,
  created_at: NOW,
  updated_at: NOW
}

/** Onboarding against the stand-in, with a store that remembers what it was told to write. */
async function setUp (t: Test, { row = null, platformApp = app, store = {} }: {
  row?: Partial<TenantConfigRow> | null
  platformApp?: typeof app | null
  store?: { find?: Error, completeOnboarding?: Error }
} = {}) {
  const { meta, waba, graph } = await standIn(t)
  const written: unknown[] = []
  const onboarding = createOnboarding({
    tenantConfigs: {
      async find () {
        if (store.find) throw store.find
        return row && { ...emptyRow, ...row }
      },
      async completeOnboarding (tenantId: string, userId: string | null, proven: ProvenIdentity) {
        if (store.completeOnboarding) throw store.completeOnboarding
        written.push([tenantId, userId, proven])
        return { created: row === null, config: { ...emptyRow, ...proven } }
      }
    },
    vault,
    metaGraph: graph,
    platformApp: platformApp ?? undefined
  })
  const complete = (more: { code?: string, waba_id?: string, phone_number_id?: string, redirect_uri?: string } = {}) => onboarding.complete({
    tenantId: 'acme', userId: 'u1', code: meta.state.issueCode({ app_id: app.id }), waba_id: waba.id, phone_number_id: '7', ...more
  })
  return { meta, waba, written, complete, token: () => [...meta.state.tokens.keys()].at(-1) }
}

await test('a login of a new tenant is exchanged, proven and stored whole', async t => {
  const { meta, waba, written, complete, token } = await setUp(t)
  const { created, config } = await complete()
  t.equal(created, true)
  t.equal(config.phone_number_id, '7')
  t.match(meta.requests.map(({ route }) => route), ['access_token', 'debug_token', 'phone_numbers'])
  const expiresAt = new Date(1000 * (meta.state.tokens.get(token() ?? '')?.expires_at ?? 0)).toISOString()
  t.strictSame(written, [['acme', 'u1', { waba_id: waba.id, phone_number_id: '7', access_token: token(), token_expires_at: expiresAt }]])
})

await test('the redirect_uri goes to Meta', async t => {
  const { meta, complete, written } = await setUp(t, { row: {} })
  const redirect = { redirect_uri: 'https://a.example/cb' }
  t.equal((await complete({ ...redirect, code: meta.state.issueCode({ app_id: app.id, ...redirect }) })).created, false)
  t.equal(written.length, 1)
})

await test("a tenant's own app serves when the row has the whole pair, else the platform's", async t => {
  const own = { id: '42', secret: 'the own secret' }
  const sealed = vault.seal(own.secret, 'acme', 'fb_app_secret')
  const used = async (row: Partial<TenantConfigRow>) => {
    const { meta, complete } = await setUp(t, { row })
    meta.state.addApp({ app_id: own.id, app_secret: own.secret })
    await complete().catch(() => {})
    return meta.requests[0]?.form.client_id
  }
  t.equal(await used({ fb_app_id: own.id, fb_app_secret: sealed }), own.id)
  t.equal(await used({ fb_app_id: own.id }), app.id)
  t.equal(await used({ fb_app_secret: sealed }), app.id)
})

await test('whose word on the expiry counts', async t => {
  const expiry = async (exchange: unknown, debug: unknown) => {
    const { meta, complete, written } = await setUp(t)
    meta.fail('access_token', { patch: { expires_in: exchange } })
    meta.fail('debug_token', { patch: { data: { expires_at: debug } } })
    await complete()
    return JSON.stringify(written)
  }
  t.match(await expiry(60, 4102444800), '"token_expires_at":"2100-01-01T00:00:00.000Z"')
  t.match(await expiry(60, 0), '"token_expires_at":null')
  t.match(await expiry(1e9, undefined), /"token_expires_at":"20[56]\d-/)
  t.match(await expiry(undefined, undefined), '"token_expires_at":null')
})

await test('what fails before the code goes to Meta', async t => {
  const refusedEarly = async (code: string, options: Parameters<typeof setUp>[1]) => {
    const { meta, complete, written } = await setUp(t, options)
    await t.rejects(complete(), { code })
    t.same([meta.requests, written], [[], []])
  }
  await refusedEarly('DATABASE_UNAVAILABLE', { store: { find: new DatabaseUnavailable() } })
  await refusedEarly('META_APP_NOT_CONFIGURED', { platformApp: null })
  await refusedEarly('META_APP_NOT_CONFIGURED', { platformApp: null, row: { fb_app_id: '42' } })
  await refusedEarly('SECRET_UNREADABLE', { row: { fb_app_id: '42', fb_app_secret: vault.seal('x', 'other tenant', 'fb_app_secret') } })
})

await test('whichever step fails, nothing is written', async t => {
  const { meta, complete, written } = await setUp(t)
  await t.rejects(complete({ code: 'x' }), { code: 'META_CODE_INVALID' })
  await t.rejects(complete({ waba_id: '404' }), { code: 'META_WABA_NOT_ACCESSIBLE' })
  await t.rejects(complete({ phone_number_id: '251' }), { code: 'META_PHONE_NOT_IN_WABA' })
  for (const route of ['access_token', 'debug_token', 'phone_numbers'] as const) {
    meta.fail(route, faults.badGateway)
    await t.rejects(complete(), { code: 'META_UNAVAILABLE' })
  }
  t.same(written, [])

  const taken = await setUp(t, { store: { completeOnboarding: new PhoneNumberTaken() } })
  await t.rejects(taken.complete(), { code: 'PHONE_NUMBER_TAKEN' })
})

await test('the plugin takes the app of the platform from fastify.env', async t => {
  const { meta, waba } = await standIn(t)
  const start = async (more: Record<string, string>) => {
    const fastify = Fastify()
    t.teardown(() => fastify.close())
    const own = { NODE_ENV: 'test', DATABASE_URL: 'embedded', JWT_SECRET: 'x'.repeat(32), ENCRYPTION_KEYS: keyRing, GRAPH_API_BASE_URL: meta.url }
    await fastify.register(env, { env: { ...own, ...more } })
    await fastify.register(fp(async (fastify) => {
      const tenantConfigs = createTenantConfigs({ orm: drizzle.mock(), vault })
      fastify.decorate('vault', vault).decorate('tenantConfigs', { ...tenantConfigs, find: async () => null })
    }, { name: 'vault' }))
    await fastify.register(fp(async () => {}, { name: 'tenant-configs' }))
    await fastify.register(metaGraph)
    await fastify.register(onboarding)
    return fastify.onboarding
  }
  const login = { tenantId: 'acme', userId: null, code: meta.state.issueCode({ app_id: app.id }), waba_id: waba.id, phone_number_id: '404' }
  await t.rejects((await start({})).complete(login), { code: 'META_APP_NOT_CONFIGURED' })
  await t.rejects((await start({ FB_APP_ID: app.id, FB_APP_SECRET: app.secret })).complete(login), { code: 'META_PHONE_NOT_IN_WABA' })
})
