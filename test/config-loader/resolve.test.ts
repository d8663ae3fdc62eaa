import t from '../run/tap.js'
import { createConfigDecision, toCachedConfig, isActive, snapshotOf } from '../../src/config-loader/resolve.js'
import { ConfigSnapshot, type Resolved } from '../../src/config-loader/snapshot.js'
import type { ConfigRow } from '../../src/config-loader/config-rows.sql.js'
import { platform, rowWith, settingsWith, vault } from '../fixtures/config-row.js'

const decisionWith = async (more: Record<string, string | boolean> = {}) => createConfigDecision(
  { vault, env: await settingsWith(more) }
)

/** The resolved configuration of a row; throws if the row serves none. */
function served (found: Resolved | string): Resolved {
  if (typeof found === 'string') throw new Error(found)
  return found
}

await t.test('an active row serves with its secrets opened', async (t) => {
  const { fromRow } = await decisionWith(platform)
  t.strictSame(fromRow(rowWith()), {
    tenantId: 'acme',
    isVerified: true,
    tokenStatus: 'ok',
    values: {
      phone_id: 'phone',
      access_token: 'token-of-acme-0001',
      waba_id: 'waba',
      fb_app_id: 'app',
      fb_app_secret: 'secret-of-acme-0002',
      callback_url: 'https://acme.example/callback',
      redirect_url: 'https://acme.example/redirect',
      verify_token: 'short',
      token_expires_at: '2999-01-02T03:04:05.678000Z'
    },
    sources: Object.fromEntries(
      [
        'phone_id', 'access_token', 'waba_id', 'fb_app_id', 'fb_app_secret', 'callback_url', 'redirect_url',
        'verify_token', 'token_expires_at'
      ].map((key) => [key, 'database'])
    )
  })
})

await t.test('no row is "missing" and an inactive row is "inactive", whatever its values', async (t) => {
  const { fromRow } = await decisionWith()
  t.equal(fromRow(undefined), 'missing')
  t.equal(fromRow(rowWith({ is_active: false, access_token: 'no sealed text' })), 'inactive')
})

await t.test('a secret that does not open throws SECRET_UNREADABLE', async (t) => {
  const { fromRow } = await decisionWith()
  for (const column of ['access_token', 'fb_app_secret', 'verify_token'] as const) {
    t.throws(
      () => fromRow(rowWith({ [column]: 'no sealed text' })),
      { code: 'SECRET_UNREADABLE' },
      column
    )
  }
})

await t.test('a token without a check is "unverified", and no token has no status', async (t) => {
  const { fromRow } = await decisionWith()
  for (const [change, status] of [
    [{ token_status: null }, 'unverified'], [{ token_status: 'expiring' }, 'expiring'], [{ access_token: null }, null]
  ] as const) {
    t.equal(served(fromRow(rowWith(change))).tokenStatus, status)
  }
})

await t.test('platform settings serve without a row and fill missing values but the identity', async (t) => {
  const decision = await decisionWith(platform)
  const expected = {
    phone_id: platform.WHATSAPP_PHONE_ID,
    access_token: platform.WHATSAPP_TOKEN,
    waba_id: platform.WHATSAPP_WABA_ID,
    fb_app_id: platform.FB_APP_ID,
    fb_app_secret: platform.FB_APP_SECRET,
    callback_url: platform.CALLBACK_URL,
    redirect_url: platform.REDIRECT_URL,
    verify_token: platform.VERIFY_TOKEN,
    token_expires_at: null
  }
  t.strictSame(decision.withoutRow('missing').getAllConfig(), expected)
  t.equal(decision.withoutRow('missing').isStale(), false)
  const empty = rowWith({
    phone_number_id: null,
    access_token: null,
    waba_id: null,
    fb_app_id: null,
    fb_app_secret: null,
    callback_url: null,
    redirect_url: null,
    verify_token: null,
    token_expires_at: null
  })
  t.strictSame(served(decision.fromRow(empty)).values, {
    ...expected,
    phone_id: null,
    access_token: null,
    waba_id: null
  })
  const { withoutRow } = await decisionWith()
  t.strictSame(
    withoutRow('missing').getAllConfig(),
    Object.fromEntries(Object.keys(expected).map((key) => [key, null])),
    'no platform setting is set'
  )
})

await t.test('CONFIG_FALLBACK decides which tenants get the platform settings', async (t) => {
  for (const [CONFIG_FALLBACK, missing, inactive] of [
    ['missing-or-inactive', null, null],
    ['missing', null, 'TENANT_INACTIVE'],
    ['none', 'CONFIG_NOT_FOUND', 'TENANT_INACTIVE']
  ] as const) {
    const { withoutRow } = await decisionWith({ ...platform, CONFIG_FALLBACK })
    for (const [absence, code] of [['missing', missing], ['inactive', inactive]] as const) {
      if (code === null) t.equal(withoutRow(absence).getPhoneId(), 'platform-phone', `${CONFIG_FALLBACK}: ${absence}`)
      else t.throws(() => withoutRow(absence), { code }, `${CONFIG_FALLBACK}: ${absence}`)
    }
  }
})

await t.test('a dead token is refused only with CONFIG_REFUSE_DEAD_TOKENS', async (t) => {
  const snapshotBy = ({ fromRow }: Awaited<ReturnType<typeof decisionWith>>, change: Partial<ConfigRow>) =>
    new ConfigSnapshot(served(fromRow(rowWith(change))), false)
  const lax = await decisionWith()
  const strict = await decisionWith({ CONFIG_REFUSE_DEAD_TOKENS: true })
  for (const change of [
    { token_status: 'expired' },
    { token_status: 'revoked' },
    { token_status: 'reauth_required' },
    { token_expires_at: '2020-01-01T00:00:00.000000Z' }
  ] as const) {
    t.doesNotThrow(() => { lax.assertTokenServes(snapshotBy(lax, change)) })
    t.throws(
      () => { strict.assertTokenServes(snapshotBy(strict, change)) },
      { code: 'TOKEN_DEAD' },
      JSON.stringify(change)
    )
  }
  for (const change of [
    { token_status: 'ok' }, { token_status: 'expiring' }, { token_status: null }, { access_token: null }
  ] as const) {
    t.doesNotThrow(() => { strict.assertTokenServes(snapshotBy(strict, change)) }, JSON.stringify(change))
  }
})

await t.test('a cached row has a snapshot and a frozen promise of it; a missing row has none', async (t) => {
  for (const absence of ['missing', 'inactive'] as const) {
    t.equal(toCachedConfig(absence), absence)
    t.notOk(isActive(absence))
  }
  const { fromRow } = await decisionWith()
  const resolved = served(fromRow(rowWith()))
  const entry = toCachedConfig(resolved)
  if (!isActive(entry)) throw new Error('the row does not serve')
  t.equal(entry.resolved, resolved)
  t.equal(await entry.answer, entry.snapshot)
  t.ok(Object.isFrozen(entry.answer))
  t.equal(entry.snapshot.getTenantId(), 'acme')
  t.equal(entry.snapshot.isStale(), false)
  t.equal(snapshotOf(entry, false), entry.snapshot)
  t.equal(snapshotOf(entry, true).isStale(), true)
  t.equal(snapshotOf(entry, true).getAllConfig(), resolved.values)
})
