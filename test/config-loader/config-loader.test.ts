import t from '../run/tap.js'
import type { ConfigInput } from '../../src/tenant-configs/row-secrets.js'
import { verifyEachRow } from '../fixtures/verified-rows.js'
import { buildTestApp, createDatabase, query, until } from '../helper.js'
import { env, row } from './complete-config.js'

const { phone_number_id: phone_id, refresh_token: _, ...rest } = row
const fromRow = { phone_id, ...rest }
const appOfEnv = { fb_app_id: env.FB_APP_ID, fb_app_secret: env.FB_APP_SECRET }
const restOfEnv = {
  ...appOfEnv,
  callback_url: env.CALLBACK_URL,
  redirect_url: env.REDIRECT_URL,
  verify_token: env.VERIFY_TOKEN
}
const noIdentity = { phone_id: null, access_token: null, waba_id: null, token_expires_at: null }
const fromEnv = {
  phone_id: env.WHATSAPP_PHONE_ID,
  access_token: env.WHATSAPP_TOKEN,
  waba_id: env.WHATSAPP_WABA_ID,
  token_expires_at: null,
  ...restOfEnv
}

/** The expected result for a tenant: values, or the code of the error. */
type Outcome = object | 'TENANT_INACTIVE' | 'CONFIG_NOT_FOUND'

await t.test('the row and CONFIG_FALLBACK decide the values or the error of a tenant', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const rows: Record<string, ConfigInput> = {
    whole: row,
    empty: { refresh_token: 'r' },
    'without token': { ...row, phone_number_id: '2', access_token: null },
    'half an app': { ...row, phone_number_id: '3', fb_app_secret: null },
    'other half': { ...row, phone_number_id: '4', fb_app_id: null },
    'without URLs': { ...row, phone_number_id: '5', callback_url: null, verify_token: null },
    inactive: { ...row, phone_number_id: '6' }
  }
  const always: Record<string, Outcome> = {
    whole: fromRow,
    empty: { ...noIdentity, ...restOfEnv },
    'without token': { ...fromRow, phone_id: '2', access_token: null },
    'half an app': { ...fromRow, phone_id: '3', ...appOfEnv },
    'other half': { ...fromRow, phone_id: '4', ...appOfEnv },
    'without URLs': { ...fromRow, phone_id: '5', callback_url: env.CALLBACK_URL, verify_token: env.VERIFY_TOKEN }
  }
  const modes: Record<string, Record<string, Outcome>> = {
    '': { ...always, inactive: fromEnv, missing: fromEnv },
    'missing-or-inactive': { ...always, inactive: fromEnv, missing: fromEnv },
    missing: { ...always, inactive: 'TENANT_INACTIVE', missing: fromEnv },
    none: { ...always, inactive: 'TENANT_INACTIVE', missing: 'CONFIG_NOT_FOUND' }
  }
  const { app: { tenantConfigs } } = await buildTestApp(t, { DATABASE_URL })
  for (const [tenant, input] of Object.entries(rows)) await tenantConfigs.create(tenant, null, input)
  await tenantConfigs.setActive('inactive', false)

  for (const [CONFIG_FALLBACK, outcomes] of Object.entries(modes)) {
    const { app: { configLoader }, log } = await buildTestApp(t, { DATABASE_URL, ...env, CONFIG_FALLBACK })
    for (const [tenant, outcome] of Object.entries(outcomes)) {
      for (const time of ['loaded', 'again']) {
        const what = `${CONFIG_FALLBACK}: ${tenant}, ${time}`
        if (typeof outcome === 'string') {
          await t.rejects(configLoader.forTenant(tenant), { code: outcome }, what)
          await t.rejects(configLoader.getWhatsappConfig(tenant), { code: outcome }, what)
        } else {
          const config = await configLoader.forTenant(tenant)
          t.strictSame(config.getAllConfig(), { ...config.getAllConfig(), ...outcome }, what)
          t.equal(config.hasTenantConfig(), tenant in always, what)
          t.strictSame(await configLoader.getWhatsappConfig(tenant), config.getAllConfig(), what)
        }
      }
    }
    t.notMatch(log(), 'canary')
  }

  const { app: { configLoader } } = await buildTestApp(t, { DATABASE_URL })
  t.strictSame(
    Object.values(await configLoader.getWhatsappConfig('missing')),
    Array(9).fill(null),
    'without .env every value is null'
  )
  t.strictSame((await configLoader.forTenant('half an app')).getSources(), {
    ...Object.fromEntries(Object.keys(fromRow).map((key) => [key, 'database'])),
    fb_app_id: null,
    fb_app_secret: null
  })
})

await t.test('forTenant rejects an invalid tenant id with a TypeError', async (t) => {
  const { app: { configLoader } } = await buildTestApp(t, env)
  const call: (id: unknown) => Promise<unknown> = async (id) => await Reflect.apply(
    configLoader.forTenant,
    configLoader,
    [id]
  )
  for (const id of [
    undefined, null, 1, {}, ['acme'], '', 'x'.repeat(101), '👋'.repeat(101), 'a\0', 'a\n', '\u007f', '\u0085',
    '\ud800', Object('acme')
  ]) {
    await t.rejects(call(id), TypeError)
  }
  for (const id of [
    'x', '👋'.repeat(100), ' ', '__proto__', "'; drop table"
  ]) t.equal((await configLoader.forTenant(id)).getPhoneId(), env.WHATSAPP_PHONE_ID)
})

await t.test('a secret that does not open is an error, without .env fallback or cached entry', async (t) => {
  const { app: { tenantConfigs, configLoader }, databaseUrl } = await buildTestApp(t, env)
  await verifyEachRow(databaseUrl)
  await tenantConfigs.create('unreadable', null, row)
  const unreadable = { code: 'SECRET_UNREADABLE' }
  for (const column of ['access_token', 'fb_app_secret', 'verify_token']) {
    await query(databaseUrl, `update tenant_configs set ${column} = 'v1.' || ${column}`)
    const code = async () => await configLoader.getWhatsappConfig('unreadable').then(
      () => null,
      (err: unknown) => err instanceof Error && 'code' in err ? err.code : err
    )
    await until(async () => await code() === 'SECRET_UNREADABLE')
    for (const call of [
      async () => await configLoader.forTenant('unreadable'),
      async () => await configLoader.forPhoneNumber(row.phone_number_id),
      async () => (await configLoader.forWaba(row.waba_id))[0]
    ]) {
      if (column === 'access_token') await t.rejects(call, unreadable)
      else t.equal((await call())?.getAccessToken(), row.access_token, 'the other secrets open when they are asked for')
    }
    await query(databaseUrl, `update tenant_configs set ${column} = substr(${column}, 4)`)
    await until(async () => await code() === null)
    t.equal((await configLoader.forTenant('unreadable')).getAccessToken(), row.access_token)
  }
})
