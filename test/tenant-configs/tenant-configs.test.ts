import t from '../run/tap.js'
import { buildTestApp, connect, query, untilWaiting } from '../helper.js'

await t.test('a PUT of the stored token is a new token if another one was stored meanwhile', async (t) => {
  const { app: { tenantConfigs, vault }, databaseUrl } = await buildTestApp(t)
  await tenantConfigs.create('acme', null, { access_token: 'first' })
  await query(
    databaseUrl,
    "update tenant_configs set last_verified_at = now(), token_expires_at = '2027-01-22T12:00:00Z'"
  )
  const other = await connect(t, databaseUrl)
  await other.query('begin')
  await other.query('update tenant_configs set access_token = $1', [vault.seal('second', 'acme', 'access_token')])
  const put = tenantConfigs.update('acme', { access_token: 'first' })
  await untilWaiting(databaseUrl, 1)
  await other.query('commit')
  const row = await put
  t.equal(vault.open(String(row.access_token), 'acme', 'access_token'), 'first')
  t.match(row, { last_verified_at: null, token_expires_at: null })
})

await t.test('a PUT of the stored token stays verified if the token was sealed again meanwhile', async (t) => {
  const { app: { tenantConfigs, vault }, databaseUrl } = await buildTestApp(t)
  const seal = () => vault.seal('token', 'acme', 'access_token')
  const verified = { last_verified_at: String, onboarding_completed: true, token_expires_at: String }
  await tenantConfigs.create('acme', null, { access_token: 'token' })
  await query(databaseUrl, `update tenant_configs set last_verified_at = now(), onboarding_completed = true,
    token_expires_at = '2027-01-22T12:00:00Z'`)
  const other = await connect(t, databaseUrl)
  const resealed = seal()
  await other.query('begin')
  await other.query('update tenant_configs set access_token = $1', [resealed])
  const put = tenantConfigs.update('acme', { access_token: 'token', callback_url: 'https://a.example' })
  await untilWaiting(databaseUrl, 1)
  await other.query('commit')
  t.match(await put, { ...verified, access_token: resealed, callback_url: 'https://a.example' })
})

await t.test('a PUT of the stored token keeps the verification while a rotation runs', async (t) => {
  const { app: { tenantConfigs, vault }, databaseUrl } = await buildTestApp(t)
  await tenantConfigs.create('acme', null, { access_token: 'token' })
  await query(databaseUrl, 'update tenant_configs set last_verified_at = now(), onboarding_completed = true')
  const other = await connect(t, databaseUrl)
  const over = new AbortController()
  const rotation = (async () => {
    while (!over.signal.aborted) {
      await other.query('update tenant_configs set access_token = $1', [vault.seal('token', 'acme', 'access_token')])
    }
  })()
  for (let i = 0; i < 50; i++) {
    t.match(await tenantConfigs.update('acme', { access_token: 'token' }), {
      last_verified_at: String, onboarding_completed: true
    })
  }
  over.abort()
  await rotation
})
