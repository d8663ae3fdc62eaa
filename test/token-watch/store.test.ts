import type { Test } from 'tap'
import t from '../run/tap.js'
import type { EnvSource } from '../../src/app.js'
import type { Transition } from '../../src/token-watch/token-watch.js'
import type { TokenStatus } from '../../src/schemas/statuses.js'
import { buildTestApp, connect, createDatabase, query, takeAway, untilWaiting } from '../helper.js'

const DAY = 24 * 60 * 60 * 1000
const inTime = (ms: number) => new Date(Date.now() + ms).toISOString()
const ofWatch = 'select tenant_id, status, reason, reported, checked_at is not null as checked, next_check_at <= ' +
  'now() as due from token_watch order by tenant_id'

/** Starts a service whose scheduler checks no token, and records its transitions. */
async function watching (t: Test, env: EnvSource = {}) {
  // Only the test checks tokens: the first poll of the scheduler finds none, and the next one is after the test.
  const service = await buildTestApp(t, { DATABASE_URL: await createDatabase(t, { watched: true }), ...env })
  const { app: { tenantConfigs, tokenWatch, configLoader }, databaseUrl } = service
  const told: Transition[] = []
  tokenWatch.onTransition((transition) => { told.push(transition) })
  return {
    ...service,
    tenantConfigs,
    tokenWatch,
    configLoader,
    told,
    sql: async (text: string, values: unknown[] = []) => await query(databaseUrl, text, values),
    /** Stores a token for the tenant; returns its ciphertext. */
    async store (tenant: string, token = 'a token', expiresAt: string | null = null): Promise<string> {
      const input = { access_token: token, token_expires_at: expiresAt }
      const row = await tenantConfigs.find(tenant) === null
        ? await tenantConfigs.create(tenant, null, input)
        : await tenantConfigs.update(tenant, input)
      return String(row.access_token)
    }
  }
}

const never = { valid: true, expires_at: null } as const
const revoked = { valid: false, reason: 'meta_190_460' } as const

await t.test('each stored token has a watch, whichever statement stored or deleted it', async (t) => {
  const { store, sql, tokenWatch, tenantConfigs } = await watching(t)
  const due = { status: 'unverified', reason: null, reported: null, checked: false, due: true }
  const known = { status: 'revoked', reason: 'meta_190_460', reported: 'revoked', checked: true, due: false }
  const sealed = await store('acme')
  await tenantConfigs.create('bare', null, { waba_id: '1' })
  t.same(await sql(ofWatch), [{ tenant_id: 'acme', ...due }], 'one appears with a token')
  t.equal(await tokenWatch.record('acme', sealed, revoked), true)
  t.same(await sql(ofWatch), [{ tenant_id: 'acme', ...known }])
  await tenantConfigs.update('acme', { waba_id: '2' })
  t.same(await sql(ofWatch), [{ tenant_id: 'acme', ...known }], 'what is not of the token is nothing to it')
  await tenantConfigs.update('acme', { token_expires_at: inTime(DAY) })
  t.same(await sql(ofWatch), [{ tenant_id: 'acme', ...known, due: true }], 'another date makes it due')
  await store('acme', 'another token')
  t.same(
    await sql(ofWatch),
    [{ tenant_id: 'acme', ...due, reported: 'revoked' }],
    'a new token is unverified; what was told stays'
  )

  await sql("update tenant_configs set access_token = 'by hand'")
  t.same((await sql(ofWatch)).map(({ tenant_id }) => tenant_id), ['acme', 'bare'], 'psql counts too')
  await tenantConfigs.update('bare', { access_token: null })
  await sql("insert into tenant_configs (tenant_id, access_token) values ('x', '1'), ('y', '2'), ('z', null)")
  t.same((await sql(ofWatch)).map(({ tenant_id }) => tenant_id), ['acme', 'x', 'y'])
  await sql("delete from tenant_configs where tenant_id in ('x', 'bare')")
  t.same((await sql(ofWatch)).map(({ tenant_id }) => tenant_id), ['acme', 'y'])
  await tenantConfigs.remove('acme')
  t.same((await sql(ofWatch)).map(({ tenant_id }) => tenant_id), ['y'])
  await sql('truncate tenant_configs')
  t.same(await sql(ofWatch), [])
})

await t.test('a finding of a token that is no longer stored or watched is not recorded', async (t) => {
  const { store, sql, tokenWatch, told, tenantConfigs } = await watching(t)
  const old = await store('acme')
  const current = await store('acme', 'another token')
  t.equal(await store('acme', 'another token'), current, 'the same token stays as it is sealed')
  const before = await sql('select * from token_watch')
  const claim = String((await tokenWatch.healthOf('acme'))?.next_check_at)
  t.equal(await tokenWatch.record('acme', old, revoked), false)
  t.equal(await tokenWatch.record('nobody', old, revoked), false)
  t.equal(await tokenWatch.extend('acme', old, 'new', null, claim), false)
  t.same(await sql('select * from token_watch'), before)
  await sql('delete from token_watch')
  t.equal(await tokenWatch.record('acme', current, revoked), false)
  await tenantConfigs.update('acme', { access_token: null })
  t.equal(await tokenWatch.record('acme', current, revoked), false)
  t.same(told, [])
})

await t.test('a finding waits for a concurrent write of the token and is then not recorded', async (t) => {
  const { store, tokenWatch, databaseUrl, sql } = await watching(t)
  const sealed = await store('acme')
  const other = await connect(t, databaseUrl)
  await other.query("begin; update tenant_configs set access_token = 'newer'")
  const noted = tokenWatch.record('acme', sealed, revoked)
  await untilWaiting(databaseUrl, 1)
  await other.query('commit')
  t.equal(await noted, false)
  t.match(await sql(ofWatch), [{ status: 'unverified', due: true }])
})

await t.test('a recorded expiry is stored in the row and invalidates the cache', async (t) => {
  const { store, tokenWatch, configLoader, sql } = await watching(t)
  const sealed = await store('acme', 'a token', '2030-01-01T00:00:00Z')
  const expiry = async () => (await configLoader.getWhatsappConfig('acme')).token_expires_at
  t.equal(await expiry(), '2030-01-01T00:00:00.000000Z')
  const soon = inTime(20 * DAY).replace(/\.\d+/, '.000')
  for (const [expires_at, stored] of [[soon, soon.replace('.000', '.000000')], [null, null]] as const) {
    t.equal(await tokenWatch.record('acme', sealed, { valid: true, expires_at }), true)
    t.equal(await expiry(), stored)
    t.match(await sql(ofWatch), [{ status: 'ok', due: false }], 'though a new date alone would make it due')
  }
  const [before] = await sql('select updated_at::text from tenant_configs')
  await tokenWatch.record('acme', sealed, never)
  t.same(await sql('select updated_at::text from tenant_configs'), [before], 'what stays is not written')
})

await t.test('a transition appears once in the log, at each listener and in the outbox', async (t) => {
  const { store, tokenWatch, told, log, sql } = await watching(t, {
    EVENTS_WEBHOOK_URL: 'https://events.example/',
    EVENTS_WEBHOOK_SECRET: 'the secret of events'
  })
  const ignored: string[] = []
  tokenWatch.onTransition(() => { throw new Error('a listener that fails') })
  tokenWatch.onTransition(async () => { throw new Error('one that fails later') })
  tokenWatch.onTransition(({ type }) => { ignored.push(type) })()
  const sealed = await store('acme')
  for (const finding of [never, revoked, never, never]) t.equal(await tokenWatch.record('acme', sealed, finding), true)
  t.match(told, [
    {
      id: /^[\da-f-]{36}$/,
      type: 'token.revoked',
      tenant_id: 'acme',
      from: 'ok',
      to: 'revoked',
      reason: 'meta_190_460',
      at: /^\d{4}-.+Z$/
    },
    { type: 'token.recovered', tenant_id: 'acme', from: 'revoked', to: 'ok', reason: null }
  ])
  t.equal(told.length, 2)
  t.same(ignored, [])
  const outbox = await sql('select * from events_outbox order by at')
  t.match(outbox, told.map(({ at, ...event }) => ({ ...event, at: new Date(at), attempts: 0 })))
  t.equal(outbox.length, 2)
  const lines = log().split('\n').filter((line) => line.includes('"event":')).map((line) => JSON.parse(line))
  t.match(lines, [
    { level: 40, msg: 'token.revoked', event: told[0] },
    { level: 30, msg: 'token.recovered', event: told[1] }
  ])
  t.equal(log().split('a listener of token transitions failed').length, 5, 'a listener that fails is logged each time')
  t.notMatch(log(), sealed)
})

await t.test('the outbox stays empty if EVENTS_WEBHOOK_URL is not set', async (t) => {
  const { store, tokenWatch, told, sql } = await watching(t)
  await tokenWatch.record('acme', await store('acme'), revoked)
  t.equal(told.length, 1)
  t.same(await sql('select * from events_outbox'), [])
})

await t.test('the reported state of a former token makes its valid successor a recovery', async (t) => {
  const { store, tokenWatch, told } = await watching(t)
  await tokenWatch.record('acme', await store('acme'), revoked)
  const sealed = await store('acme', 'another token')
  t.match(await tokenWatch.healthOf('acme'), { token_status: 'unverified', reason: null, checked_at: null })
  await tokenWatch.record('acme', sealed, never)
  t.match(told.map(({ type, from }) => [type, from]), [['token.revoked', 'unverified'], ['token.recovered', 'revoked']])
})

await t.test('the reason of a deactivation stays until the tenant is active again', async (t) => {
  const { store, tokenWatch, tenantConfigs, told, sql } = await watching(t)
  const sealed = await store('acme')
  await tokenWatch.record('acme', sealed, { valid: false, reason: 'PARTNER_REMOVED' })
  await tenantConfigs.setActive('acme', false)
  t.equal(await tokenWatch.record('acme', sealed, never), true)
  t.match(
    await sql(ofWatch),
    [{ status: 'revoked', reason: 'PARTNER_REMOVED', due: false }],
    'looked at, and left as it is'
  )
  await tenantConfigs.setActive('acme', true)
  t.match(await sql(ofWatch), [{ status: 'revoked', due: true }])
  await tokenWatch.record('acme', sealed, never)
  t.match(await sql(ofWatch), [{ status: 'ok', reason: null }])
  t.same(told.map(({ type }) => type), ['token.revoked', 'token.recovered'])
})

await t.test('a transition that is recorded 20 times concurrently is emitted once', async (t) => {
  const { store, tokenWatch, told, sql } = await watching(t)
  const sealed = await store('acme')
  const soon = { valid: true, expires_at: inTime(DAY / 2).replace(/\.\d+/, '.000') } as const
  t.same(
    await Promise.all(Array.from({ length: 20 }, async () => await tokenWatch.record('acme', sealed, soon))),
    Array(20).fill(true)
  )
  t.match(told.map(({ type }) => type), ['token.expiring'])
  t.match(await sql(ofWatch), [{ reported: 'expiring:expires_within_1_day' }])
})

await t.test('an extended token replaces the old one and recovers the tenant', async (t) => {
  const { store, tokenWatch, tenantConfigs, configLoader, told, app: { vault } } = await watching(t)
  const held = await store('acme', 'old')
  await tokenWatch.record('acme', held, { valid: true, expires_at: inTime(DAY / 2) })
  t.equal((await configLoader.forTenant('acme')).getAccessToken(), 'old')
  const sealed = vault.seal('new', 'acme', 'access_token')
  const claim = String((await tokenWatch.healthOf('acme'))?.next_check_at)
  t.equal(await tokenWatch.extend('acme', held, sealed, null, claim), true)
  t.equal((await configLoader.forTenant('acme')).getAccessToken(), 'new')
  t.match(await tenantConfigs.find('acme'), { access_token: sealed, token_expires_at: null })
  t.match(await tokenWatch.healthOf('acme'), { token_status: 'ok', reason: null })
  t.match(told.map(({ type, from }) => [type, from]), [
    ['token.expiring', 'unverified'], ['token.recovered', 'expiring']
  ])
})

await t.test('a finding of an outdated claim is not recorded', async (t) => {
  const { store, tokenWatch, sql } = await watching(t)
  const sealed = await store('acme')
  const claim = String((await tokenWatch.healthOf('acme'))?.next_check_at)
  await tokenWatch.record('acme', sealed, revoked)
  t.equal(await tokenWatch.record('acme', sealed, never, claim), false)
  t.equal(await tokenWatch.extend('acme', sealed, 'new', null, claim), false)
  t.match(await sql(ofWatch), [{ status: 'revoked' }])
  const current = String((await tokenWatch.healthOf('acme'))?.next_check_at)
  t.equal(
    await tokenWatch.record('acme', sealed, { valid: true, expires_at: inTime(90 * DAY) }, current),
    true,
    'with a new date, too'
  )
})

await t.test('a failed transaction of the caller records and emits nothing', async (t) => {
  const { store, tokenWatch, tenantConfigs, told, sql } = await watching(t, {
    EVENTS_WEBHOOK_URL: 'https://events.example/',
    EVENTS_WEBHOOK_SECRET: 'the secret of events'
  })
  const sealed = await store('acme')
  await t.rejects(tenantConfigs.inTransaction(new Set(['acme']), async (tx) => {
    t.match(await tokenWatch.recordIn(tx, 'acme', sealed, revoked), { transition: { type: 'token.revoked' } })
    throw new Error('the caller fails')
  }), { message: 'the caller fails' })
  t.match(await sql(ofWatch), [{ status: 'unverified', reported: null }])
  t.same(await sql('select * from events_outbox'), [])
  t.same(told, [])
})

await t.test('the health of an unknown tenant is null, and without a token it is unverified', async (t) => {
  const { tokenWatch, tenantConfigs } = await watching(t)
  t.equal(await tokenWatch.healthOf('nobody'), null)
  await tenantConfigs.create('bare', null, { token_expires_at: '2030-01-01T00:00:00Z' })
  const unverified: TokenStatus = 'unverified'
  t.strictSame(await tokenWatch.healthOf('bare'), {
    token_status: unverified,
    reason: 'no_token',
    checked_at: null,
    token_expires_at: '2030-01-01T00:00:00.000000Z',
    next_check_at: null
  })
})

await t.test('a database outage or a lock timeout is DATABASE_UNAVAILABLE and frees the connection', async (t) => {
  const { store, tokenWatch, databaseUrl, app } = await watching(t, { DATABASE_POOL_MAX: 1 })
  const sealed = await store('acme')
  const giveBack = await takeAway(databaseUrl)
  for (let i = 0; i < 3; i++) {
    await t.rejects(tokenWatch.record('acme', sealed, never), { code: 'DATABASE_UNAVAILABLE' })
  }
  await t.rejects(tokenWatch.healthOf('acme'), { code: 'DATABASE_UNAVAILABLE' })
  await giveBack()
  t.equal(await tokenWatch.record('acme', sealed, never), true)

  const other = await connect(t, databaseUrl)
  await other.query('begin; lock tenant_configs')
  await t.rejects(
    tokenWatch.record('acme', sealed, revoked),
    { code: 'DATABASE_UNAVAILABLE' },
    'it waits for no lock for ever'
  )
  await other.query('commit')
  t.equal(await tokenWatch.record('acme', sealed, revoked), true)
  await t.rejects(
    app.database.transaction(async () => { throw new Error('not the database') }),
    { message: 'not the database' }
  )
})
