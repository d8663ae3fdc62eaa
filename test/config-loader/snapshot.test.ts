import { format, inspect } from 'node:util'
import pino from 'pino'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { resolve } from '../../src/config-loader/resolve.js'
import { ConfigSnapshot, type ConfigValues } from '../../src/config-loader/snapshot.js'

const each = (make: (key: string) => string | null): ConfigValues => ({
  phone_id: make('phone_id'),
  access_token: make('access_token'),
  waba_id: make('waba_id'),
  fb_app_id: make('fb_app_id'),
  fb_app_secret: make('fb_app_secret'),
  callback_url: make('callback_url'),
  redirect_url: make('redirect_url'),
  verify_token: make('verify_token'),
  token_expires_at: make('token_expires_at')
})
const row = each((key) => `database ${key}`)
const env = each((key) => `env ${key}`)
const none = each(() => null)
const open = (sealed: string) => sealed
const identity = ['phone_id', 'access_token', 'waba_id', 'token_expires_at']
const appPair = ['fb_app_id', 'fb_app_secret']

/** The snapshot of a tenant with these values in its row, or without a row. */
const snapshotOf = (values: ConfigValues | null, fallback: ConfigValues) =>
  new ConfigSnapshot(
    resolve(values && { tenantId: 'acme', isVerified: true, tokenStatus: 'ok', values }, fallback, open),
    false
  )

/** Asserts the source of each value of a snapshot. */
function assertSource (
  t: Test,
  what: string,
  snapshot: ConfigSnapshot,
  source: (key: string) => 'database' | 'env' | null
): void {
  const expected = each((key) => source(key) === null ? null : `${source(key)} ${key}`)
  t.strictSame(snapshot.getAllConfig(), expected, what)
  t.strictSame(snapshot.getSources(), each(source), what)
  t.strictSame(
    [snapshot.getPhoneId(), snapshot.getAccessToken(), snapshot.getWabaId()],
    [expected.phone_id, expected.access_token, expected.waba_id]
  )
}

await t.test('without an active row every value comes from .env', async (t) => {
  const snapshot = snapshotOf(null, env)
  assertSource(t, 'all set', snapshot, () => 'env')
  t.equal(snapshot.hasTenantConfig(), false)
  assertSource(t, 'nothing set', snapshotOf(null, none), () => null)
  assertSource(t, 'some set', snapshotOf(null, {
    ...env,
    access_token: null,
    fb_app_id: null
  }), (key) => ['access_token', 'fb_app_id'].includes(key) ? null : 'env')
})

await t.test('a complete row takes precedence over .env', async (t) => {
  for (const fallback of [env, none]) {
    const snapshot = snapshotOf(row, fallback)
    assertSource(t, 'whole', snapshot, () => 'database')
    t.equal(snapshot.hasTenantConfig(), true)
  }
})

await t.test('isVerified() is that of the row, and false for .env values', async (t) => {
  for (const isVerified of [true, false]) {
    t.equal(
      new ConfigSnapshot(
        resolve({ tenantId: 'acme', isVerified, tokenStatus: 'ok', values: row }, env, open),
        false
      ).isVerified(),
      isVerified
    )
  }
  t.equal(snapshotOf(null, env).isVerified(), false)
})

await t.test('the identity is never mixed: its values that the row lacks are null', async (t) => {
  for (const missing of identity) {
    assertSource(t, missing, snapshotOf(
      each((key) => key === missing ? null : `database ${key}`),
      env
    ), (key) => key === missing ? null : 'database')
  }
  const empty = snapshotOf(none, env)
  assertSource(t, 'an empty row', empty, (key) => identity.includes(key) ? null : 'env')
  t.equal(empty.hasTenantConfig(), true)
})

await t.test('an incomplete app pair in a row counts as none', async (t) => {
  for (const missing of appPair) {
    const half = each((key) => key === missing ? null : `database ${key}`)
    assertSource(t, missing, snapshotOf(half, env), (key) => appPair.includes(key) ? 'env' : 'database')
    assertSource(t, `${missing} everywhere`, snapshotOf(half, none), (key) => appPair.includes(key) ? null : 'database')
  }
})

await t.test('each of the other values falls back to .env separately', async (t) => {
  for (const missing of ['callback_url', 'redirect_url', 'verify_token']) {
    const lacking = each((key) => key === missing ? null : `database ${key}`)
    assertSource(t, missing, snapshotOf(lacking, env), (key) => key === missing ? 'env' : 'database')
    assertSource(t, `${missing} everywhere`, snapshotOf(lacking, none), (key) => key === missing ? null : 'database')
  }
})

await t.test('a token expires at its expiry time, and never without one', async (t) => {
  const expired = (time: string | null) => snapshotOf({ ...row, token_expires_at: time }, none).isTokenExpired()
  t.equal(expired(null), false)
  t.equal(expired(new Date(Date.now() - 1).toISOString()), true)
  t.equal(expired(new Date().toISOString()), true, 'the token is expired at its expiry time')
  t.equal(expired('2020-01-01T00:00:00.123456Z'), true)
  t.equal(expired('9999-12-31T23:59:59.999999Z'), false)
  const soon = snapshotOf({ ...row, token_expires_at: '2100-01-01T00:00:00Z' }, none)
  t.equal(soon.isTokenExpired(), false)
  t.intercept(Date, 'now', { value: () => Date.parse('2100-01-01T00:00:00Z') })
  t.equal(soon.isTokenExpired(), true, 'a snapshot expires while it is kept')
})

await t.test('the token status is that of the last check, but "expired" after the expiry time', async (t) => {
  const [past, ahead] = ['2020-01-01T00:00:00.000000Z', '2999-01-01T00:00:00.000000Z']
  for (const [tokenStatus, token_expires_at, expected] of [
    ['ok', ahead, 'ok'], ['ok', null, 'ok'], ['ok', past, 'expired'], ['unverified', past, 'expired'],
    ['expiring', past, 'expired'], ['revoked', past, 'revoked'],
    ['reauth_required', past, 'reauth_required'], ['reauth_required', ahead, 'reauth_required'], [null, past, null]
  ] as const) {
    const resolved = resolve(
      { tenantId: 'acme', isVerified: true, tokenStatus, values: { ...row, token_expires_at } },
      none,
      open
    )
    t.equal(new ConfigSnapshot(resolved, false).getTokenStatus(), expected, `${tokenStatus} ${token_expires_at}`)
  }
  t.equal(snapshotOf(null, { ...env, token_expires_at: past }).getTokenStatus(), null, 'a token of .env has no status')
})

await t.test('a snapshot has its tenant id, null for .env values, and its staleness', async (t) => {
  t.equal(snapshotOf(row, none).getTenantId(), 'acme')
  t.equal(snapshotOf(null, env).getTenantId(), null)
  for (const isStale of [true, false]) t.equal(new ConfigSnapshot(resolve(null, env, open), isStale).isStale(), isStale)
})

await t.test('a snapshot is immutable', async (t) => {
  const given = { ...row }
  const snapshot = snapshotOf(given, env)
  Object.assign(given, { access_token: 'changed later' })
  for (const frozen of [snapshot, snapshot.getAllConfig(), snapshot.getSources()]) {
    t.throws(() => Object.assign(frozen, { access_token: 'changed' }), TypeError)
    t.throws(() => Object.assign(frozen, { getAccessToken: () => 'changed' }), TypeError)
  }
  assertSource(t, 'the values did not change', snapshot, () => 'database')
})

await t.test('a printed, serialised or logged snapshot shows no value', async (t) => {
  const canary = 'canary-in-the-row'
  const snapshot = snapshotOf(each(() => canary), each(() => canary))
  let logged = ''
  const logger = pino({ level: 'trace' }, { write (line: string) { logged += line } })
  logger.info(snapshot, 'one')
  logger.info({ snapshot, list: [snapshot] }, 'two %s %o %j', snapshot, snapshot, snapshot)
  t.match(logged, /one.*two/s)
  const shown = [inspect(snapshot, { depth: Infinity, showHidden: true, getters: true }), format(
    '%s %o %O %j',
    snapshot,
    snapshot,
    snapshot,
    snapshot
  ),
  JSON.stringify({ snapshot }), String(snapshot), JSON.stringify(structuredClone(snapshot)),
  JSON.stringify({ ...snapshot }), logged].join('\n')
  t.notMatch(shown, canary)
  t.equal(snapshot.getAccessToken(), canary)
})
