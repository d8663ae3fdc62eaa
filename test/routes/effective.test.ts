import t from '../run/tap.js'
import type { ConfigValues } from '../../src/config-loader/snapshot.js'
import { mask } from '../../src/vault/masking.js'
import { MASK } from '../../src/schemas/fields.js'
import { reasons } from '../../src/schemas/effective.js'
import { platform } from '../fixtures/config-row.js'
import { buildTestApp, createDatabase, newKey, query, makeUnreachable, until } from '../helper.js'
import { client, config, configs, full } from './client.js'

const effective = `${config}/effective`
const of = (tenantId: string) => `${configs}/effective/${encodeURIComponent(tenantId)}`
const secrets: Array<keyof ConfigValues> = ['access_token', 'fb_app_secret', 'verify_token']
const names: Array<keyof ConfigValues> = [
  'phone_id', 'access_token', 'waba_id', 'fb_app_id', 'fb_app_secret', 'callback_url', 'redirect_url', 'verify_token',
  'token_expires_at'
]
const nothing = Object.fromEntries(names.map((name) => [name, { value: null, source: null }]))
const fromPlatform = {
  phone_id: { value: platform.WHATSAPP_PHONE_ID, source: 'env' },
  access_token: { value: MASK, source: 'env' },
  waba_id: { value: platform.WHATSAPP_WABA_ID, source: 'env' },
  fb_app_id: { value: platform.FB_APP_ID, source: 'env' },
  fb_app_secret: { value: MASK, source: 'env' },
  callback_url: { value: platform.CALLBACK_URL, source: 'env' },
  redirect_url: { value: platform.REDIRECT_URL, source: 'env' },
  verify_token: { value: MASK, source: 'env' },
  token_expires_at: { value: null, source: null }
}

await t.test('a tenant sees its effective values, their sources and the reason', async (t) => {
  const { as, call } = await client(t, platform)
  const acme = as('acme')
  const before = await call(acme, 'GET', effective)
  t.equal(before.is, '200', 'a tenant without a row gets an answer')
  t.strictSame(Object.keys(before.body), ['tenant_id', 'decision', 'reason', 'explanation', 'row', 'values'])
  t.strictSame({ ...before.body, explanation: '' }, {
    tenant_id: 'acme',
    decision: 'fall_back',
    reason: 'NO_ROW',
    explanation: '',
    row: null,
    values: fromPlatform
  })

  const { body: { updated_at } } = await call(acme, 'POST', config, { ...full, callback_url: null })
  const served = {
    phone_id: { value: full.phone_number_id, source: 'database' },
    access_token: { value: '****0001', source: 'database' },
    waba_id: { value: full.waba_id, source: 'database' },
    fb_app_id: { value: full.fb_app_id, source: 'database' },
    fb_app_secret: { value: '****0002', source: 'database' },
    callback_url: fromPlatform.callback_url,
    redirect_url: { value: full.redirect_url, source: 'database' },
    verify_token: { value: MASK, source: 'database' },
    token_expires_at: { value: '2030-01-02T03:04:05.678000Z', source: 'database' }
  }
  const row = { is_active: true, updated_at, key_ids: ['t1'], unreadable: [] }
  const active = await call(acme, 'GET', effective)
  t.strictSame({ ...active.body, explanation: '' }, {
    tenant_id: 'acme',
    decision: 'serve',
    reason: 'ACTIVE_ROW',
    explanation: '',
    row,
    values: served
  })

  await call(acme, 'PUT', config, { fb_app_secret: null })
  t.match(
    (await call(acme, 'GET', effective)).body,
    { decision: 'serve', values: { fb_app_id: fromPlatform.fb_app_id, fb_app_secret: fromPlatform.fb_app_secret } },
    'half a pair is not used'
  )
  await call(acme, 'PUT', config, { access_token: null, verify_token: null })
  t.match(
    (await call(acme, 'GET', effective)).body,
    {
      row: { key_ids: [] },
      values: { access_token: { value: null, source: null }, verify_token: fromPlatform.verify_token }
    },
    'the identity falls back as a whole; the loader does not use refresh_token'
  )

  await call(acme, 'POST', `${config}/deactivate`)
  t.match((await call(acme, 'GET', effective)).body, {
    decision: 'fall_back',
    reason: 'INACTIVE_ROW',
    row: { is_active: false },
    values: fromPlatform
  })
  t.match((await call(as('other'), 'GET', effective)).body, { tenant_id: 'other', reason: 'NO_ROW', row: null })
})

await t.test('explain agrees with the loader for every kind of row and every CONFIG_FALLBACK', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const { app: { tenantConfigs } } = await buildTestApp(t, { DATABASE_URL })
  const rows = {
    whole: full,
    empty: { refresh_token: full.refresh_token },
    'half an app': { ...full, phone_number_id: '2', fb_app_id: null },
    inactive: { ...full, phone_number_id: '3' },
    moved: { ...full, phone_number_id: '4' },
    'inactive and moved': { ...full, phone_number_id: '5' },
    dead: { ...full, phone_number_id: '6', token_expires_at: '2020-01-01T00:00:00Z' }
  }
  for (const [tenant, input] of Object.entries(rows)) await tenantConfigs.create(tenant, null, input)
  await query(
    DATABASE_URL,
    "update tenant_configs set access_token = (select access_token from tenant_configs where tenant_id = 'whole') " +
      "where tenant_id like '%moved'"
  )
  await query(DATABASE_URL, "update tenant_configs set is_active = false where tenant_id like 'inactive%'")

  const seen = new Set<string>()
  for (const env of [{}, { ...platform, CONFIG_REFUSE_DEAD_TOKENS: true }]) {
    for (const CONFIG_FALLBACK of ['missing-or-inactive', 'missing', 'none']) {
      const { app: { configLoader } } = await buildTestApp(t, { DATABASE_URL, ...env, CONFIG_FALLBACK })
      for (const tenant of [...Object.keys(rows), 'missing']) {
        const { decision, reason, explanation, row, values } = await configLoader.explain(tenant)
        const what = `${CONFIG_FALLBACK}: ${tenant} ${reason}`
        seen.add(`${decision} ${reason}`)
        t.match(explanation, /^[A-Z].*\.$/, what)
        t.strictSame(row === null, tenant === 'missing', what)
        t.strictSame(row?.unreadable ?? [], tenant.endsWith('moved') ? ['access_token'] : [], what)
        if (decision === 'refuse') {
          await t.rejects(configLoader.forTenant(tenant), { code: reason }, what)
          t.strictSame(values, nothing, what)
          continue
        }
        const config = await configLoader.forTenant(tenant)
        t.equal(config.hasTenantConfig(), decision === 'serve', what)
        const [clear, sources] = [config.getAllConfig(), config.getSources()]
        const masked = (name: keyof ConfigValues) =>
          clear[name] !== null && secrets.includes(name)
            ? sources[name] === 'env' ? MASK : mask(clear[name])
            : clear[name]
        t.strictSame(
          values,
          Object.fromEntries(names.map((name) => [name, { value: masked(name), source: sources[name] }])),
          what
        )
      }
    }
  }
  t.strictSame([...seen].sort(), [
    'fall_back INACTIVE_ROW', 'fall_back NO_ROW', 'refuse CONFIG_NOT_FOUND', 'refuse SECRET_UNREADABLE',
    'refuse TENANT_INACTIVE', 'refuse TOKEN_DEAD', 'serve ACTIVE_ROW'
  ])
  t.strictSame([...seen].map((outcome) => outcome.split(' ')[1]).sort(), [...reasons].sort(), 'every reason occurs')
})

await t.test('explain names the keys of the row and the unreadable secrets', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const [k1, k2] = [`k1:${newKey()}`, `k2:${newKey()}`]
  const { app: old } = await buildTestApp(t, { DATABASE_URL, ENCRYPTION_KEYS: k1 })
  await old.tenantConfigs.create('acme', null, full)
  const { app: { tenantConfigs, configLoader } } = await buildTestApp(t, {
    DATABASE_URL,
    ENCRYPTION_KEYS: `${k2},${k1}`
  })
  const rowOf = async () => (await configLoader.explain('acme')).row
  t.match(await rowOf(), { key_ids: ['k1'], unreadable: [] })
  await tenantConfigs.update('acme', { access_token: 'sealed anew' })
  t.match(await rowOf(), { key_ids: ['k1', 'k2'], unreadable: [] })
  t.match(
    (await old.configLoader.explain('acme')).row,
    { key_ids: ['k1', 'k2'], unreadable: ['access_token'] },
    'a missing key is listed'
  )

  for (const [sealed, keyIds] of [
    ['no sealed text', ['k1']], ['v1.k1.', ['k1']], ['v1.k9.AAAA', ['k1', 'k9']], ['v2.k9.AAAA', ['k1']], ['', ['k1']]
  ] as const) {
    await query(DATABASE_URL, 'update tenant_configs set access_token = $1', [sealed])
    t.match(await rowOf(), { key_ids: keyIds, unreadable: ['access_token'] }, sealed)
  }
  await query(DATABASE_URL, 'update tenant_configs set fb_app_secret = verify_token, verify_token = fb_app_secret')
  t.match(await configLoader.explain('acme'), {
    reason: 'SECRET_UNREADABLE',
    row: { key_ids: ['k1'], unreadable: ['access_token', 'fb_app_secret', 'verify_token'] }
  })
  await tenantConfigs.update('acme', { access_token: 'a', fb_app_secret: 'b', verify_token: 'c' })
  t.match(
    await configLoader.explain('acme'),
    { decision: 'serve', row: { key_ids: ['k2'], unreadable: [] } },
    'new secrets make the row readable'
  )
})

await t.test('explain reads the database and does not change the cache', async (t) => {
  const { app: { tenantConfigs, configLoader }, databaseUrl } = await buildTestApp(t)
  await tenantConfigs.create('acme', null, { waba_id: 'old' })
  // The own write is invalidated once more, by its notification.
  await until(() => configLoader.stats().invalidations === 3)
  const wabaOf = async () => [
    (await configLoader.forTenant('acme')).getWabaId(),
    (await configLoader.explain('acme')).values.waba_id.value
  ]
  t.strictSame(await wabaOf(), ['old', 'old'])
  const before = configLoader.stats()
  // A write without a notification.
  await query(databaseUrl, 'alter table tenant_configs disable trigger user')
  await query(databaseUrl, "update tenant_configs set waba_id = 'new'")
  t.strictSame(await wabaOf(), ['old', 'new'])
  t.strictSame(configLoader.stats(), { ...before, hits: before.hits + 1 })

  await t.rejects(Reflect.apply(configLoader.explain, undefined, [7]), TypeError)
  for (const id of ['', 'a\0', 'x'.repeat(101), '\ud800']) await t.rejects(configLoader.explain(id), TypeError)
  const restore = await makeUnreachable(databaseUrl)
  await t.rejects(configLoader.explain('acme'), { code: 'DATABASE_UNAVAILABLE' }, 'explain does not use the cache')
  await restore()
  t.equal((await configLoader.explain('acme')).decision, 'serve')
})

await t.test('an admin sees the effective configuration of any tenant id', async (t) => {
  const { as, admin, call } = await client(t, platform)
  const odd = ['a/b', 'a%', 'a%2Fb', 'ä', '😀'.repeat(100), 'a b', '?x=1', '#']
  for (const id of ['acme', ...odd]) await call(as(id), 'POST', config, { ...full, phone_number_id: null })
  for (const id of ['acme', ...odd, 'nobody', '%2Fb']) {
    const { is, body } = await call(admin, 'GET', of(id))
    t.equal(is, '200', id)
    t.equal(body['tenant_id'], id)
    t.strictSame(body, (await call(as(id), 'GET', effective)).body, 'the admin sees the same as the tenant')
    t.equal(body['reason'], ['nobody', '%2Fb'].includes(id) ? 'NO_ROW' : 'ACTIVE_ROW', id)
  }
  for (const [id, is] of [
    ['', '400 VALIDATION_FAILED'], ['%00', '400 VALIDATION_FAILED'], ['a%0a', '400 VALIDATION_FAILED'],
    ['a'.repeat(101), '400 VALIDATION_FAILED'], ['a?x=1', '400 VALIDATION_FAILED'], ['%ff', '400 VALIDATION_FAILED'],
    ['%', '400 VALIDATION_FAILED'], ['%ed%a0%80', '400 VALIDATION_FAILED'], ['a/b', '404 ROUTE_NOT_FOUND']
  ] as const) t.equal((await call(admin, 'GET', `${configs}/effective/${id}`)).is, is, id.slice(0, 20))
  t.strictSame(
    (await call(admin, 'GET', `${configs}/effective/a%0a`)).body['errors'],
    [{ field: 'id', message: 'must not hold control characters or lone surrogates' }]
  )
  t.equal((await call(as('acme'), 'GET', of('acme'))).is, '403 FORBIDDEN')
  t.equal((await call(admin, 'GET', effective)).is, '403 TENANT_CLAIM_INVALID')
})
