import t from '../run/tap.js'
import { createConfigDecision } from '../../src/config-loader/resolve.js'
import { createExplanation } from '../../src/config-loader/explain.js'
import { createVault } from '../../src/vault/vault.js'
import { platform, rowWith, settingsWith, vault } from '../fixtures/config-row.js'
import { newKey } from '../without-database.js'

const explanationWith = async (more: Record<string, string | boolean> = {}) =>
  createExplanation({ vault, decision: createConfigDecision({ vault, env: await settingsWith(more) }) })
const keys = [
  'phone_id', 'access_token', 'waba_id', 'fb_app_id', 'fb_app_secret', 'callback_url', 'redirect_url', 'verify_token',
  'token_expires_at'
]
const nothing = Object.fromEntries(keys.map((key) => [key, { value: null, source: null }]))
const row = { is_active: true, updated_at: '2026-11-23T12:00:00.000000Z', key_ids: ['k1'], unreadable: [] }
const fromPlatform = {
  phone_id: { value: 'platform-phone', source: 'env' },
  access_token: { value: '****', source: 'env' },
  waba_id: { value: 'platform-waba', source: 'env' },
  fb_app_id: { value: 'platform-app', source: 'env' },
  fb_app_secret: { value: '****', source: 'env' },
  callback_url: { value: 'https://platform.example/callback', source: 'env' },
  redirect_url: { value: 'https://platform.example/redirect', source: 'env' },
  verify_token: { value: '****', source: 'env' },
  token_expires_at: { value: null, source: null }
}

await t.test('an active row is explained with masked secrets', async (t) => {
  const explained = await explanationWith(platform)
  t.strictSame({ ...explained('acme', rowWith({ callback_url: null })), explanation: '' }, {
    tenant_id: 'acme',
    decision: 'serve',
    reason: 'ACTIVE_ROW',
    explanation: '',
    row,
    values: {
      phone_id: { value: 'phone', source: 'database' },
      access_token: { value: '****0001', source: 'database' },
      waba_id: { value: 'waba', source: 'database' },
      fb_app_id: { value: 'app', source: 'database' },
      fb_app_secret: { value: '****0002', source: 'database' },
      callback_url: fromPlatform.callback_url,
      redirect_url: { value: 'https://acme.example/redirect', source: 'database' },
      verify_token: { value: '****', source: 'database' },
      token_expires_at: { value: '2999-01-02T03:04:05.678000Z', source: 'database' }
    }
  })
})

await t.test('each reason has its decision, its values, and a sentence with the remedy', async (t) => {
  const off = rowWith({ is_active: false })
  for (const [settings, given, decision, reason, says] of [
    [{}, rowWith(), 'serve', 'ACTIVE_ROW', /which serves.*PUT \/config\.$/],
    [{}, undefined, 'fall_back', 'NO_ROW', /no configuration.*\.env serve.*POST \/config or onboard\.$/],
    [{}, off, 'fall_back', 'INACTIVE_ROW', /turned off.*\.env serve.*POST \/config\/activate\.$/],
    [
      { CONFIG_FALLBACK: 'none' },
      undefined,
      'refuse',
      'CONFIG_NOT_FOUND',
      /no configuration, and CONFIG_FALLBACK.*POST \/config or onboard\.$/
    ],
    [
      { CONFIG_FALLBACK: 'missing' },
      off,
      'refuse',
      'TENANT_INACTIVE',
      /turned off, and CONFIG_FALLBACK.*POST \/config\/activate\.$/
    ],
    [
      { CONFIG_REFUSE_DEAD_TOKENS: true },
      rowWith({ token_status: 'revoked' }),
      'refuse',
      'TOKEN_DEAD',
      /revoked.*CONFIG_REFUSE_DEAD_TOKENS.*access_token with PUT \/config\.$/
    ],
    [
      {},
      rowWith({ access_token: 'no sealed text' }),
      'refuse',
      'SECRET_UNREADABLE',
      /does not open.*`unreadable` again with PUT \/config.*\.$/
    ]
  ] as const) {
    const explained = (await explanationWith({ ...platform, ...settings }))('acme', given)
    t.match(explained, { tenant_id: 'acme', decision, reason, explanation: says })
    t.strictSame(explained.row === null, given === undefined, reason)
    if (decision === 'fall_back') t.strictSame(explained.values, fromPlatform, reason)
    if (decision === 'refuse') t.strictSame(explained.values, nothing, reason)
  }
})

await t.test('a row serves although a secret besides the access token does not open', async (t) => {
  const explained = await explanationWith(platform)
  for (const column of ['fb_app_secret', 'verify_token'] as const) {
    const { decision, values, row } = explained('acme', rowWith({ [column]: 'no sealed text' }))
    t.match({ decision, row }, { decision: 'serve', row: { unreadable: [column] } })
    t.strictSame(values[column], { value: '****', source: 'database' })
  }
})

await t.test('a value that neither the row nor the platform has is null, secrets included', async (t) => {
  const explained = await explanationWith()
  t.strictSame(explained('acme', undefined).values, nothing)
  const { values } = explained('acme', rowWith({ access_token: null, verify_token: null }))
  t.strictSame([
    values.access_token, values.verify_token
  ], [{ value: null, source: null }, { value: null, source: null }])
})

await t.test('the row lists its key ids, sorted and unique, and its unreadable columns', async (t) => {
  const explained = await explanationWith()
  const rowOf = (change: Parameters<typeof rowWith>[0]) => explained('acme', rowWith(change)).row
  const other = createVault({ keyRing: `a0:${newKey()}` })
  t.strictSame(rowOf({}), row)
  t.strictSame(rowOf({ access_token: null, fb_app_secret: null, verify_token: null }), { ...row, key_ids: [] })
  t.strictSame(
    rowOf({ verify_token: other.seal('x', 'acme', 'verify_token') }),
    { ...row, key_ids: ['a0', 'k1'], unreadable: ['verify_token'] }
  )
  t.strictSame(rowOf({ access_token: 'no sealed text' }), { ...row, unreadable: ['access_token'] })
  t.strictSame(
    rowOf({ is_active: false, fb_app_secret: vault.seal('x', 'acme', 'verify_token') }),
    { ...row, is_active: false, unreadable: ['fb_app_secret'] },
    'a secret of another column'
  )
  t.strictSame(
    rowOf({ tenant_id: 'other' })?.unreadable,
    ['access_token', 'fb_app_secret', 'verify_token'],
    'secrets of another tenant'
  )
})

await t.test('an unexpected error is rethrown, not mapped to a reason', async (t) => {
  const explained = await explanationWith()
  for (const odd of [
    new Error('odd'),
    Object.assign(new Error('odd'), { code: 'ODD' }),
    Object.assign(new Error('odd'), { code: ['TOKEN_DEAD'] }),
    { code: 'TOKEN_DEAD' },
    'odd',
    null
  ]) {
    const row = { get is_active (): never { throw odd } }
    t.equal(thrownBy(() => Reflect.apply(explained, undefined, ['acme', row])), odd)
  }
})

function thrownBy (call: () => unknown): unknown {
  try {
    call()
  } catch (err) {
    return err
  }
  throw new Error('nothing was thrown')
}
