import t from '../run/tap.js'
import { createConfigDecision, isActive, type CachedConfig } from '../../src/config-loader/resolve.js'
import { ConfigSnapshot } from '../../src/config-loader/snapshot.js'
import type { ConfigRow } from '../../src/config-loader/config-rows.sql.js'
import { platform, rowWith, settingsWith, vault } from '../fixtures/config-row.js'

const decisionWith = async (more: Record<string, string | boolean> = {}) => createConfigDecision(
  { vault, env: await settingsWith(more) }
)

/** The snapshot of a row; throws if the row serves none. */
function served (found: CachedConfig): ConfigSnapshot {
  if (!isActive(found)) throw new Error(found)
  return found
}

await t.test('an active row serves with its secrets opened', async (t) => {
  const { fromRow } = await decisionWith(platform)
  const snapshot = served(fromRow(rowWith()))
  t.strictSame(
    [snapshot.getTenantId(), snapshot.isVerified(), snapshot.getTokenStatus(), snapshot.isStale()],
    ['acme', true, 'ok', false]
  )
  t.strictSame(snapshot.getAllConfig(), {
    phone_id: 'phone',
    access_token: 'token-of-acme-0001',
    waba_id: 'waba',
    fb_app_id: 'app',
    fb_app_secret: 'secret-of-acme-0002',
    callback_url: 'https://acme.example/callback',
    redirect_url: 'https://acme.example/redirect',
    verify_token: 'short',
    token_expires_at: '2999-01-02T03:04:05.678000Z'
  })
  t.ok(Object.values(snapshot.getSources()).every((source) => source === 'database'))
  t.equal(Object.values(snapshot.getSources()).length, 9)
})

await t.test('no row is "missing" and an inactive row is "inactive", whatever its values', async (t) => {
  const { fromRow } = await decisionWith()
  t.equal(fromRow(undefined), 'missing')
  t.equal(fromRow(rowWith({ is_active: false, access_token: 'no sealed text' })), 'inactive')
})

const unreadable = { code: 'SECRET_UNREADABLE' }

await t.test('an access token that does not open throws; another secret throws when it is asked for', async (t) => {
  const { fromRow } = await decisionWith(platform)
  t.throws(() => fromRow(rowWith({ access_token: 'no sealed text' })), unreadable)
  for (const [column, read, other] of [
    ['fb_app_secret', 'getAppSecret', 'getVerifyToken'], ['verify_token', 'getVerifyToken', 'getAppSecret']
  ] as const) {
    const snapshot = served(fromRow(rowWith({ [column]: 'no sealed text' })))
    t.equal(snapshot.getAccessToken(), 'token-of-acme-0001')
    t.type(snapshot[other](), 'string')
    t.throws(() => snapshot[read](), unreadable, column)
    t.throws(() => snapshot.getAllConfig(), unreadable, column)
    t.throws(() => ConfigSnapshot.stale(snapshot)[read](), unreadable, column)
  }
})

await t.test('a snapshot opens a secret once, and not before it is asked for', async (t) => {
  let opened: string[] = []
  const { fromRow } = createConfigDecision({
    vault: {
      open: (...args) => {
        opened.push(args[2])
        return vault.open(...args)
      }
    },
    env: await settingsWith()
  })
  const snapshot = served(fromRow(rowWith()))
  t.same(opened, ['access_token'])
  opened = []
  for (let times = 0; times < 2; times++) t.equal(snapshot.getVerifyToken(), 'short')
  t.same(opened, ['verify_token'])
  for (let times = 0; times < 2; times++) t.equal(snapshot.getAllConfig().fb_app_secret, 'secret-of-acme-0002')
  t.same(opened, ['verify_token', 'fb_app_secret'])
  t.equal(snapshot.getAllConfig(), snapshot.getAllConfig())
})

await t.test('a token without a check is "unverified", and no token has no status', async (t) => {
  const { fromRow } = await decisionWith()
  for (const [change, status] of [
    [{ token_status: null }, 'unverified'], [{ token_status: 'expiring' }, 'expiring'], [{ access_token: null }, null]
  ] as const) {
    t.equal(served(fromRow(rowWith(change))).getTokenStatus(), status)
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
  t.strictSame(served(decision.fromRow(empty)).getAllConfig(), {
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
    served(fromRow(rowWith(change)))
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

await t.test('a snapshot has a stale copy', async (t) => {
  for (const absence of ['missing', 'inactive'] as const) t.notOk(isActive(absence))
  const { fromRow } = await decisionWith()
  const snapshot = served(fromRow(rowWith()))
  t.equal(snapshot.isStale(), false)
  t.equal(ConfigSnapshot.stale(snapshot).isStale(), true)
  t.strictSame(ConfigSnapshot.stale(snapshot).getAllConfig(), snapshot.getAllConfig())
})
