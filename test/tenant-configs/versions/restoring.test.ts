import t from '../../run/tap.js'
import { storeVerified, verifyStored } from '../../fixtures/verified-rows.js'
import { connect, untilWaiting } from '../../helper.js'
import { client, config, full } from '../../routes/client.js'

const { app, as, call, sql, rows, databaseUrl } = await client(t)
let tenants = 0

/** A tenant with a verified identity, and the fields of its row in clear. */
async function tenant () {
  const id = `tenant-${++tenants}`
  const who = as(id, 'user-1')
  t.equal((await call(who, 'POST', config, { ...full, phone_number_id: `phone of ${id}` })).is, '201')
  t.equal(await verifyStored(app, id), 'saved')
  const row = async () => (await rows()).find(({ tenant_id: tenantId }) => tenantId === id)
  return {
    id,
    who,
    row,
    put: async (fields: object) => { t.equal((await call(who, 'PUT', config, fields)).is, '200') },
    restore: async (n: string) => await call(who, 'POST', `${config}/versions/${n}/restore`),
    full: async () => (await call(who, 'GET', `${config}/full`)).body,
    numbers: async () => (await sql(
      'select version from tenant_config_versions where tenant_id = $1 order by version', [id]
    )).map(({ version }) => version),
    verified: async () =>
      await sql('select waba_id, phone_number_id from verified_identities where tenant_id = $1', [id]),
    watch: async () => (await sql('select status from token_watch where tenant_id = $1', [id]))[0]
  }
}

await t.test('a restore of other values keeps identity, its verification and the state of the token', async (t) => {
  const { id, row, put, restore, full: read, watch } = await tenant()
  const before = await read()
  const stored = await row()
  await sql("update token_watch set status = 'ok' where tenant_id = $1", [id])
  await put({ callback_url: 'https://other.example', verify_token: 'another verify token', fb_app_id: null })
  const { is, body } = await restore('1')
  t.equal(is, '200')
  t.match(body, { callback_url: full.callback_url, verify_token: '****', fb_app_id: full.fb_app_id })
  t.same({ ...await read(), updated_at: '' }, { ...before, updated_at: '' })
  t.same({ ...await row(), updated_at: '' }, { ...stored, updated_at: '' }, 'sealed as it was')
  t.same(await watch(), { status: 'ok' })
})

await t.test('a restore of another identity is unverified, as after a PUT', async (t) => {
  for (const [change, verified] of [
    [{ access_token: 'EAAG-another-token-1' }, 1], [{ waba_id: 'another' }, 0], [{ phone_number_id: 'another' }, 0],
    [{ phone_number_id: null }, 0]
  ] as const) {
    const { id, put, restore, full: read, verified: identities, watch } = await tenant()
    const before = await read()
    await put(change)
    await sql('delete from verified_identities where tenant_id = $1', [id])
    t.equal(await verifyStored(app, id), 'saved')
    await sql('update tenant_configs set onboarding_completed = true where tenant_id = $1', [id])
    await sql("update token_watch set status = 'ok' where tenant_id = $1", [id])
    const { body } = await restore('1')
    t.match(body, { onboarding_completed: false, last_verified_at: null })
    const { waba_id, phone_number_id, access_token } = before
    t.match(await read(), { waba_id, phone_number_id, access_token })
    t.equal((await identities()).length, verified, JSON.stringify(change))
    t.same(await watch(), { status: 'access_token' in change ? 'unverified' : 'ok' })
  }
})

await t.test('a restore is a change itself, and names only what it changes', async (t) => {
  const { id, who, put, restore, full: read } = await tenant()
  await put({ callback_url: null, access_token: 'EAAG-another-token-2' })
  await put({ redirect_url: null })
  const latest = await read()
  t.equal((await restore('1')).is, '200')
  t.match((await call(who, 'GET', `${config}/versions`)).body, {
    versions: [{ version: 3, changed: ['access_token', 'callback_url', 'redirect_url', 'token_expires_at'] }]
  })
  t.equal((await restore('3')).is, '200')
  t.same({ ...await read(), updated_at: '' }, { ...latest, updated_at: '' })
  t.equal((await restore('3')).is, '200', 'it changes nothing')
  t.same(await sql('select count(*)::int from tenant_config_versions where tenant_id = $1', [id]), [{ count: 4 }])
})

await t.test('the same secret under another ciphertext counts as the same', async (t) => {
  const { id, row, put, restore, numbers } = await tenant()
  await put({ redirect_url: null })
  const { access_token: token, refresh_token: refresh } = full
  await sql('update tenant_configs set access_token = $1, refresh_token = $2 where tenant_id = $3',
    [app.vault.seal(token, id, 'access_token'), app.vault.seal(refresh, id, 'refresh_token'), id])
  await sql('update tenant_configs set last_verified_at = now() where tenant_id = $1', [id])
  const before = await row()
  t.match((await restore('1')).body, { redirect_url: full.redirect_url, last_verified_at: /Z$/ })
  t.match(await row(), { access_token: before?.['access_token'], refresh_token: before?.['refresh_token'] })
  t.same(await numbers(), [1, 2, 3])
})

await t.test('a version whose secrets do not open is not restored', async (t) => {
  const { id, row, put, restore, numbers } = await tenant()
  await put({ callback_url: null })
  await put({ redirect_url: null })
  const before = await row()
  for (const value of ['v2.gone..AAAA', app.vault.seal('moved', 'other', 'refresh_token'), 'in clear']) {
    await sql('update tenant_config_versions set refresh_token = $1 where tenant_id = $2 and version = 1', [value, id])
    t.equal((await restore('1')).is, '500 SECRET_UNREADABLE')
  }
  t.same(await row(), before)
  t.same(await numbers(), [1, 2])
})

await t.test('an unreadable secret of the present row is replaced', async (t) => {
  const { id, put, restore, full: read } = await tenant()
  await put({ callback_url: null })
  await sql("update tenant_configs set access_token = 'v2.gone..AAAA', fb_app_secret = null where tenant_id = $1", [id])
  t.match((await restore('1')).body, { access_token: '****0001', last_verified_at: null })
  t.match(await read(), { access_token: full.access_token, fb_app_secret: full.fb_app_secret })
})

await t.test('a deleted configuration is created again, unverified', async (t) => {
  const { id, who, row, restore, full: read, verified, watch } = await tenant()
  await sql(`update tenant_configs set is_active = false, onboarding_completed = true, onboarded_at = '2026-02-03Z',
    created_at = '2026-01-02Z' where tenant_id = $1`, [id])
  const stored = await row()
  const before = await read()
  t.equal((await call(who, 'DELETE', config)).is, '204')
  const { is, body } = await restore('2')
  t.equal(is, '200')
  t.match(body, { user_id: 'user-1', is_active: false, onboarding_completed: false, last_verified_at: null })
  const unverified = { onboarding_completed: false, last_verified_at: null, updated_at: '', id: 0 }
  t.same({ ...await read(), updated_at: '', id: 0 }, { ...before, ...unverified })
  t.same({ ...await row(), updated_at: '', id: 0 }, { ...stored, ...unverified }, 'sealed as it was')
  t.same(await verified(), [])
  t.same(await watch(), { status: 'unverified' })
})

await t.test('a restored number of another tenant is an unverified claim', async (t) => {
  const { id, who, put, restore, verified } = await tenant()
  await put({ phone_number_id: null })
  await storeVerified(app, 'owner', {
    waba_id: 'waba-1', phone_number_id: `phone of ${id}`, access_token: 'token of the owner', token_expires_at: null
  })
  t.equal((await restore('1')).is, '200')
  t.same(await verified(), [])
  t.equal((await call(who, 'DELETE', config)).is, '204')
  t.equal((await restore('1')).is, '200')
  t.match((await app.configLoader.forPhoneNumber(`phone of ${id}`))?.getAccessToken(), 'token of the owner')
})

await t.test('the loader serves what was restored', async (t) => {
  const { id, who, put, restore } = await tenant()
  const url = async () => (await app.configLoader.forTenant(id)).getAllConfig().callback_url
  await put({ callback_url: null })
  t.equal(await url(), null)
  await restore('1')
  t.equal(await url(), full.callback_url)
  await call(who, 'DELETE', config)
  t.equal((await app.configLoader.forTenant(id)).hasTenantConfig(), false)
  await restore('1')
  t.equal(await url(), full.callback_url)
})

await t.test('`previous` is the newest verified version that differs from what is stored', async (t) => {
  const { id, who, put, restore, full: read } = await tenant()
  const previous = async () => (await call(who, 'GET', `${config}/versions/previous`))
  t.equal((await previous()).is, '404 VERSION_NOT_FOUND')
  await put({ callback_url: 'https://first.example' })
  t.match((await previous()).body, { version: 1, callback_url: full.callback_url })
  await put({ access_token: 'EAAG-wrong-token-001' })
  t.match((await previous()).body, { version: 2, callback_url: 'https://first.example', access_token: '****0001' })
  await put({ access_token: 'EAAG-wrong-token-002' })
  t.match((await previous()).body, { version: 2 }, 'version 3 was never verified')
  t.equal((await restore('previous')).is, '200')
  t.match(await read(), { callback_url: 'https://first.example', access_token: full.access_token })
  t.match((await previous()).body, { version: 1 }, 'version 2 is what is stored')
  await sql('update tenant_configs set access_token = $1 where tenant_id = $2',
    [app.vault.seal(full.access_token, id, 'access_token'), id])
  t.match((await previous()).body, { version: 1 }, 'also under another ciphertext')
  t.equal((await restore('previous')).is, '200')
  t.match(await read(), { callback_url: full.callback_url, access_token: full.access_token })
})

await t.test('`previous` of a deleted configuration is its last verified state', async (t) => {
  const { who, put, restore, full: read } = await tenant()
  await put({ access_token: 'EAAG-wrong-token-003' })
  t.equal((await call(who, 'DELETE', config)).is, '204')
  t.match((await call(who, 'GET', `${config}/versions/previous`)).body, { version: 1 })
  t.equal((await restore('previous')).is, '200')
  t.match(await read(), { access_token: full.access_token })
})

await t.test('a restore waits for a concurrent change, and comes after it', async (t) => {
  const { id, put, restore, full: read } = await tenant()
  await put({ callback_url: null })
  const writer = await connect(t, databaseUrl)
  await writer.query('begin')
  await writer.query("update tenant_configs set fb_app_id = 'meanwhile' where tenant_id = $1", [id])
  const restored = restore('1')
  await untilWaiting(databaseUrl, 1)
  await writer.query('commit')
  t.equal((await restored).is, '200')
  t.match(await read(), { callback_url: full.callback_url, fb_app_id: full.fb_app_id })
  const [last] = await sql(
    'select fb_app_id, changed from tenant_config_versions where tenant_id = $1 order by version desc limit 1', [id]
  )
  t.same(last, { fb_app_id: 'meanwhile', changed: ['fb_app_id', 'callback_url'] })
})

await t.test('a restore of a deleted configuration takes over the row that was created meanwhile', async (t) => {
  const { id, who, restore, full: read } = await tenant()
  t.equal((await call(who, 'DELETE', config)).is, '204')
  const writer = await connect(t, databaseUrl)
  await writer.query('begin')
  await writer.query(`insert into tenant_configs (tenant_id, user_id, last_verified_at, onboarding_completed)
    values ($1, 'new', now(), true)`, [id])
  const restored = restore('1')
  await untilWaiting(databaseUrl, 1)
  await writer.query('commit')
  t.match((await restored).body, { user_id: 'new', onboarding_completed: false, last_verified_at: null })
  t.match(await read(), { callback_url: full.callback_url, access_token: full.access_token })
})

await t.test('two restores at once both succeed', async (t) => {
  const { who, put, restore, numbers } = await tenant()
  await put({ callback_url: null })
  await put({ redirect_url: null })
  const answers = await Promise.all(['1', '2', 'previous', '1'].map(restore))
  t.same(answers.map(({ is }) => is), ['200', '200', '200', '200'])
  await call(who, 'DELETE', config)
  const last = (await numbers()).length
  const again = await Promise.all([String(last), '1', 'previous'].map(restore))
  t.same(again.map(({ is }) => is), ['200', '200', '200'])
  t.same(await numbers(), (await numbers()).map((_, i) => i + 1))
})
