import t from '../run/tap.js'
import { connect, makeUnreachable, untilWaiting } from '../helper.js'
import type { TokenStatus } from '../../src/schemas/statuses.js'
import { recordExtension } from './extension-record.js'
import { DAY, inTime, unlimited, selectWatches, revoked, startService } from './unpolled-service.js'

await t.test('each stored token has a watch, whichever statement stored or deleted it', async (t) => {
  const { store, sql, tokenWatch, tenantConfigs } = await startService(t)
  const due = { status: 'unverified', reason: null, reported: null, checked: false, due: true }
  const revokedWatch = { status: 'revoked', reason: 'meta_190_460', reported: 'revoked', checked: true, due: false }
  const sealed = await store('acme')
  await tenantConfigs.create('bare', null, { waba_id: '1' })
  t.same(await sql(selectWatches), [{ tenant_id: 'acme', ...due }], 'only a row with a token has a watch')
  t.equal(await tokenWatch.record('acme', sealed, revoked), true)
  t.same(await sql(selectWatches), [{ tenant_id: 'acme', ...revokedWatch }])
  await tenantConfigs.update('acme', { waba_id: '2' })
  t.same(await sql(selectWatches), [{ tenant_id: 'acme', ...revokedWatch }], 'other columns do not affect the watch')
  await tenantConfigs.update('acme', { token_expires_at: inTime(DAY) })
  t.same(
    await sql(selectWatches),
    [{ tenant_id: 'acme', ...revokedWatch, due: true }],
    'another expiry makes the token due'
  )
  await store('acme', 'another token')
  t.same(
    await sql(selectWatches),
    [{ tenant_id: 'acme', ...due, reported: 'revoked' }],
    'a new token is unverified; the reported state stays'
  )

  await sql("update tenant_configs set access_token = 'by hand'")
  t.same(
    (await sql(selectWatches)).map(({ tenant_id }) => tenant_id),
    ['acme', 'bare'],
    'a statement of psql creates a watch, too'
  )
  await tenantConfigs.update('bare', { access_token: null })
  await sql("insert into tenant_configs (tenant_id, access_token) values ('x', '1'), ('y', '2'), ('z', null)")
  t.same((await sql(selectWatches)).map(({ tenant_id }) => tenant_id), ['acme', 'x', 'y'])
  await sql("delete from tenant_configs where tenant_id in ('x', 'bare')")
  t.same((await sql(selectWatches)).map(({ tenant_id }) => tenant_id), ['acme', 'y'])
  await tenantConfigs.remove('acme')
  t.same((await sql(selectWatches)).map(({ tenant_id }) => tenant_id), ['y'])
  await sql('truncate tenant_configs')
  t.same(await sql(selectWatches), [])
})

await t.test('a finding of a token that is no longer stored or watched is not recorded', async (t) => {
  const { app, store, sql, tokenWatch, transitions, tenantConfigs } = await startService(t)
  const old = await store('acme')
  const current = await store('acme', 'another token')
  t.equal(await store('acme', 'another token'), current, 'the same token keeps its ciphertext')
  const before = await sql('select * from token_watch')
  const claim = String((await tokenWatch.healthOf('acme'))?.next_check_at)
  t.equal(await tokenWatch.record('acme', old, revoked), false)
  t.equal(await tokenWatch.record('nobody', old, revoked), false)
  await recordExtension(app, 'acme', { stored: old, claim }, { sealed: 'new', expires_at: null })
  t.same(await sql('select * from token_watch'), before)
  await sql('delete from token_watch')
  t.equal(await tokenWatch.record('acme', current, revoked), false)
  await tenantConfigs.update('acme', { access_token: null })
  t.equal(await tokenWatch.record('acme', current, revoked), false)
  t.same(transitions, [])
})

await t.test('a finding waits for a concurrent write of the token and is then not recorded', async (t) => {
  const { store, tokenWatch, databaseUrl, sql } = await startService(t)
  const sealed = await store('acme')
  const other = await connect(t, databaseUrl)
  await other.query("begin; update tenant_configs set access_token = 'newer'")
  const recorded = tokenWatch.record('acme', sealed, revoked)
  await untilWaiting(databaseUrl, 1)
  await other.query('commit')
  t.equal(await recorded, false)
  t.match(await sql(selectWatches), [{ status: 'unverified', due: true }])
})

await t.test('a recorded expiry is stored in the row and invalidates the cache', async (t) => {
  const { store, tokenWatch, configLoader, sql } = await startService(t)
  const sealed = await store('acme', 'a token', '2030-01-01T00:00:00Z')
  const expiry = async () => (await configLoader.getWhatsappConfig('acme')).token_expires_at
  t.equal(await expiry(), '2030-01-01T00:00:00.000000Z')
  const soon = inTime(20 * DAY).replace(/\.\d+/, '.000')
  for (const [expires_at, stored] of [[soon, soon.replace('.000', '.000000')], [null, null]] as const) {
    t.equal(await tokenWatch.record('acme', sealed, { valid: true, expires_at }), true)
    t.equal(await expiry(), stored)
    t.match(await sql(selectWatches), [{ status: 'ok', due: false }], 'a recorded expiry does not make the token due')
  }
  const [before] = await sql('select updated_at::text from tenant_configs')
  await tokenWatch.record('acme', sealed, unlimited)
  t.same(await sql('select updated_at::text from tenant_configs'), [before], 'an unchanged row is not written')
})

await t.test('an extended token replaces the old one and recovers the tenant', async (t) => {
  const { app, store, tokenWatch, tenantConfigs, configLoader, transitions } = await startService(t)
  const oldToken = await store('acme', 'old')
  await tokenWatch.record('acme', oldToken, { valid: true, expires_at: inTime(DAY / 2) })
  t.equal((await configLoader.forTenant('acme')).getAccessToken(), 'old')
  const sealed = app.vault.seal('new', 'acme', 'access_token')
  const claim = String((await tokenWatch.healthOf('acme'))?.next_check_at)
  await recordExtension(app, 'acme', { stored: oldToken, claim }, { sealed, expires_at: null })
  t.equal((await configLoader.forTenant('acme')).getAccessToken(), 'new')
  t.match(await tenantConfigs.find('acme'), { access_token: sealed, token_expires_at: null })
  t.match(await tokenWatch.healthOf('acme'), { token_status: 'ok', reason: null })
  t.match(transitions.map(({ type, from }) => [type, from]), [
    ['token.expiring', 'unverified'], ['token.recovered', 'expiring']
  ])
})

await t.test('a finding of an outdated claim is not recorded', async (t) => {
  const { app, store, tokenWatch, tenantConfigs, sql } = await startService(t)
  const sealed = await store('acme')
  const claim = String((await tokenWatch.healthOf('acme'))?.next_check_at)
  await tokenWatch.record('acme', sealed, revoked)
  t.equal(await tokenWatch.record('acme', sealed, unlimited, claim), false)
  await recordExtension(app, 'acme', { stored: sealed, claim }, { sealed: 'new', expires_at: null })
  t.match(await tenantConfigs.find('acme'), { access_token: sealed })
  t.match(await sql(selectWatches), [{ status: 'revoked' }])
  const current = String((await tokenWatch.healthOf('acme'))?.next_check_at)
  t.equal(
    await tokenWatch.record('acme', sealed, { valid: true, expires_at: inTime(90 * DAY) }, current),
    true,
    'a finding of the current claim is recorded, also with a new expiry'
  )
})

await t.test('the health of an unknown tenant is null, and without a token it is unverified', async (t) => {
  const { tokenWatch, tenantConfigs } = await startService(t)
  t.equal(await tokenWatch.healthOf('nobody'), null)
  await tenantConfigs.create('bare', null, { token_expires_at: '2030-01-01T00:00:00Z' })
  const unverified: TokenStatus = 'unverified'
  t.strictSame(await tokenWatch.healthOf('bare'), {
    token_status: unverified,
    reason: 'no_token',
    checked_at: null,
    token_expires_at: '2030-01-01T00:00:00.000000Z',
    next_check_at: null,
    account_status: 'ok',
    account_reason: null,
    account_initiated_by: null,
    number_status: 'none',
    number_reason: null
  })
})

await t.test('a database outage or a lock timeout is DATABASE_UNAVAILABLE and frees the connection', async (t) => {
  const { store, tokenWatch, databaseUrl, app } = await startService(t, { DATABASE_POOL_MAX: 1 })
  const sealed = await store('acme')
  const restore = await makeUnreachable(databaseUrl)
  for (let i = 0; i < 3; i++) {
    await t.rejects(tokenWatch.record('acme', sealed, unlimited), { code: 'DATABASE_UNAVAILABLE' })
  }
  await t.rejects(tokenWatch.healthOf('acme'), { code: 'DATABASE_UNAVAILABLE' })
  await restore()
  t.equal(await tokenWatch.record('acme', sealed, unlimited), true)

  const other = await connect(t, databaseUrl)
  await other.query('begin; lock tenant_configs')
  await t.rejects(
    tokenWatch.record('acme', sealed, revoked),
    { code: 'DATABASE_UNAVAILABLE' },
    'the wait for a lock is limited'
  )
  await other.query('commit')
  t.equal(await tokenWatch.record('acme', sealed, revoked), true)
  await t.rejects(
    app.database.transaction(async () => { throw new Error('not the database') }),
    { message: 'not the database' }
  )
})
