import type { Test } from 'tap'
import t from '../run/tap.js'
import type { ConfigSnapshot } from '../../src/app.js'
import { tokenStatuses } from '../../src/schemas/statuses.js'
import { buildTestApp, connect, query, until, type TestApp } from '../helper.js'

const envToken = { WHATSAPP_TOKEN: 'token of env', WHATSAPP_PHONE_ID: '99' }
const dead = ['expired', 'revoked', 'reauth_required']
const past = '2020-01-01T00:00:00Z'

/** A service with one verified tenant, and a function that sets the status of its token. */
async function createWatchedTenant (t: Test, env: Record<string, string | boolean | number> = {}) {
  const service = await buildTestApp(t, { ...envToken, ...env })
  const { app, databaseUrl } = service
  await app.tenantConfigs.create('acme', null, { access_token: 'token of acme', waba_id: '7', phone_number_id: '8' })
  await query(databaseUrl, 'update tenant_configs set last_verified_at = now()')
  const setStatus = async (status: string) => {
    await query(databaseUrl, 'update token_watch set status = $1', [status])
  }
  return { service, ...app, databaseUrl, setStatus }
}

/** The token status of the lookup's snapshot, or the code of its error. */
const statusOrCode = async (lookup: Promise<ConfigSnapshot | null>) =>
  await lookup.then((snapshot) => snapshot?.getTokenStatus(), ({ code }) => code)

const effective = async ({ app, as }: TestApp) =>
  (await app.inject({ url: '/api/v1/tenant/config/effective', headers: as('acme') })).json()

await t.test('a snapshot has the status of the last token check, as soon as it changes', async (t) => {
  const { service, configLoader, setStatus } = await createWatchedTenant(t, { CONFIG_CACHE_TTL_MS: 60_000 })
  await until(async () => await statusOrCode(configLoader.forPhoneNumber('8')) === 'unverified')
  for (const status of tokenStatuses) {
    await setStatus(status)
    await until(async () => await statusOrCode(configLoader.forTenant('acme')) === status)
    t.equal(await statusOrCode(configLoader.forPhoneNumber('8')), status)
    t.equal((await configLoader.forWaba('7'))[0]?.getTokenStatus(), status)
    t.equal((await configLoader.getWhatsappConfig('acme')).access_token, 'token of acme', 'every status serves')
    t.match(await effective(service), { decision: 'serve', reason: 'ACTIVE_ROW' })
  }
})

await t.test('a status written by this process is visible to the next call', async (t) => {
  const { configLoader, tenantConfigs, tokenWatch } =
    await createWatchedTenant(t, { CONFIG_CACHE_BLIND_TTL_MS: 60_000 })
  const row = await tenantConfigs.find('acme')
  await configLoader.forTenant('acme')
  await tokenWatch.record('acme', String(row?.access_token), { valid: false, reason: 'meta_190' })
  t.equal((await configLoader.forTenant('acme')).getTokenStatus(), 'revoked')
  await tenantConfigs.update('acme', { access_token: 'another' })
  t.equal((await configLoader.forTenant('acme')).getTokenStatus(), 'unverified', 'a new token is unverified')
})

await t.test('the status is null without a token or a row, and "unverified" without a watch', async (t) => {
  const { configLoader, tenantConfigs, databaseUrl } = await createWatchedTenant(t, { CONFIG_REFUSE_DEAD_TOKENS: true })
  t.equal((await configLoader.forTenant('nobody')).getTokenStatus(), null, 'the token of .env has no status')
  await query(databaseUrl, 'delete from token_watch')
  await tenantConfigs.update('acme', { callback_url: null })
  t.equal((await configLoader.forTenant('acme')).getTokenStatus(), 'unverified', 'the token has no watch yet')
  await tenantConfigs.update('acme', { access_token: null, token_expires_at: past })
  t.equal((await configLoader.forTenant('acme')).getTokenStatus(), null, 'the row has no token')
  await tenantConfigs.setActive('acme', false)
  t.equal((await configLoader.forTenant('acme')).getTokenStatus(), null, 'the row is inactive')
})

await t.test('a token past its expiry time is expired before any check reports it', async (t) => {
  const { configLoader, tenantConfigs, setStatus } = await createWatchedTenant(t)
  await tenantConfigs.update('acme', { token_expires_at: past })
  t.equal((await configLoader.forTenant('acme')).getTokenStatus(), 'expired')
  for (const status of ['revoked', 'reauth_required', 'expired']) {
    await setStatus(status)
    await until(async () => await statusOrCode(configLoader.forTenant('acme')) === status)
  }
})

await t.test('with CONFIG_REFUSE_DEAD_TOKENS a dead token fails forTenant but not id lookups', async (t) => {
  const { service, configLoader, tenantConfigs, setStatus } =
    await createWatchedTenant(t, { CONFIG_REFUSE_DEAD_TOKENS: true })
  for (const status of tokenStatuses) {
    await setStatus(status)
    const refused = dead.includes(status) ? 'TOKEN_DEAD' : undefined
    await until(async () => await statusOrCode(configLoader.forPhoneNumber('8')) === status)
    for (const time of ['loaded', 'cached']) {
      t.equal(await statusOrCode(configLoader.forTenant('acme')), refused ?? status, `${time}, ${status}`)
    }
    t.equal(
      await configLoader.getWhatsappConfig('acme').then(({ access_token: token }) => token, ({ code }) => code),
      refused ?? 'token of acme'
    )
    t.equal(await statusOrCode(configLoader.forPhoneNumber('8')), status)
    t.equal((await configLoader.forWaba('7'))[0]?.getTokenStatus(), status)
    const { decision, reason, values } = await effective(service)
    t.same(
      [decision, reason, values.access_token.value],
      refused === undefined ? ['serve', 'ACTIVE_ROW', '****'] : ['refuse', 'TOKEN_DEAD', null]
    )
  }
  await setStatus('ok')
  await tenantConfigs.update('acme', { token_expires_at: past })
  const refused = configLoader.forTenant('acme')
  await t.rejects(refused, { code: 'TOKEN_DEAD', statusCode: 409, message: /onboard again/ })
  t.equal((await configLoader.forTenant('nobody')).getAccessToken(), 'token of env')
  await tenantConfigs.update('acme', { access_token: 'a new one' })
  t.equal((await configLoader.forTenant('acme')).getAccessToken(), 'a new one')
})

await t.test('a token that expires while its configuration is cached is refused from then on', async (t) => {
  const { configLoader, tenantConfigs } = await createWatchedTenant(t, {
    CONFIG_REFUSE_DEAD_TOKENS: true,
    CONFIG_CACHE_TTL_MS: 60_000
  })
  const expiresAt = Date.now() + 3000
  await tenantConfigs.update('acme', { token_expires_at: new Date(expiresAt).toISOString() })
  t.equal((await configLoader.forTenant('acme')).getTokenStatus(), 'unverified')
  await until(async () => await statusOrCode(configLoader.forTenant('acme')) === 'TOKEN_DEAD')
  t.ok(Date.now() >= expiresAt)
})

await t.test('a status change that is rolled back invalidates nothing', async (t) => {
  const { configLoader, databaseUrl } = await createWatchedTenant(t, { CONFIG_CACHE_TTL_MS: 60_000 })
  await until(async () => await statusOrCode(configLoader.forPhoneNumber('8')) === 'unverified')
  const writer = await connect(t, databaseUrl)
  await writer.query("begin; update token_watch set status = 'revoked'")
  t.equal(await statusOrCode(configLoader.forTenant('acme')), 'unverified')
  await writer.query('rollback')
  t.equal(await statusOrCode(configLoader.forTenant('acme')), 'unverified')
})
