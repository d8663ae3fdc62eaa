import t from '../run/tap.js'
import { app as graphApp, standIn } from '../meta/wire.js'
import { newKey } from '../helper.js'
import { storeVerified } from '../fixtures/verified-rows.js'
import { client, config, configs, full, onboard } from '../routes/client.js'

const { app, as, admin, call, sql, databaseUrl } = await client(t)

const verified = {
  waba_id: 'waba-1',
  access_token: 'verified-access-token',
  token_expires_at: '2030-01-01T00:00:00.000000Z'
}
const proof = { onboarding_completed: true, last_verified_at: String, token_expires_at: verified.token_expires_at }
const noProof = { onboarding_completed: false, last_verified_at: null, onboarded_at: String }

/** Creates an onboarded tenant with all writable columns set. */
async function onboarded (tenantId: string) {
  await call(as(tenantId), 'POST', config, { ...full, phone_number_id: null })
  await storeVerified(app, tenantId, { ...verified, phone_number_id: `phone-of-${tenantId}` })
  return as(tenantId)
}

await t.test('a new account, number or token ends the verification, and other changes keep it', async (t) => {
  const expiry = '2031-01-01T00:00:00.000000Z'
  for (const [i, [body, expected]] of ([
    [{ waba_id: 'waba-1' }, proof],
    [{ access_token: verified.access_token }, proof],
    [{ ...verified }, proof],
    [
      {
        callback_url: null,
        redirect_url: 'https://new.example',
        verify_token: 'new',
        refresh_token: 'new',
        fb_app_id: 'new',
        fb_app_secret: 'new'
      },
      proof
    ],
    [{ token_expires_at: expiry }, { ...proof, token_expires_at: expiry }],
    [{ access_token: verified.access_token, token_expires_at: null }, { ...proof, token_expires_at: null }],
    [{ waba_id: 'waba-2' }, { ...noProof, token_expires_at: verified.token_expires_at }],
    [
      { waba_id: 'waba-2', access_token: verified.access_token },
      { ...noProof, token_expires_at: verified.token_expires_at }
    ],
    [{ waba_id: null }, noProof],
    [{ phone_number_id: 'phone-2' }, { ...noProof, token_expires_at: verified.token_expires_at }],
    [{ phone_number_id: null }, noProof],
    [{ access_token: 'another-token' }, { ...noProof, token_expires_at: null }],
    [{ access_token: null }, { ...noProof, token_expires_at: null }],
    [{ access_token: 'another-token', token_expires_at: expiry }, { ...noProof, token_expires_at: expiry }],
    [{ access_token: 'another-token', token_expires_at: null }, { ...noProof, token_expires_at: null }]
  ] as const).entries()) {
    const { is, body: after } = await call(await onboarded(`t${i}`), 'PUT', config, body)
    t.equal(is, '200')
    t.match(after, { ...expected, is_active: true }, JSON.stringify(body))
  }
  t.match(
    (await call(await onboarded('same-phone'), 'PUT', config, { phone_number_id: 'phone-of-same-phone' })).body,
    proof
  )
})

await t.test('an onboarding verifies the row: a first one is a 201, a repeated one a 200', async (t) => {
  const { meta, waba } = await standIn(t)
  const { as, call } = await client(t, {
    GRAPH_API_BASE_URL: meta.url,
    FB_APP_ID: graphApp.id,
    FB_APP_SECRET: graphApp.secret
  })
  const login = () => ({ code: meta.state.issueCode({ app_id: graphApp.id }), waba_id: waba.id, phone_number_id: '1' })
  const fresh = {
    onboarding_completed: true,
    onboarded_at: String,
    last_verified_at: String,
    is_active: true,
    user_id: 'first',
    access_token: /^[*]{4}.{4}$/,
    phone_number_id: '1'
  }
  const first = await call(as('acme', 'first'), 'POST', onboard, login())
  t.equal(first.is, '201')
  t.match(first.body, fresh)
  await call(as('acme'), 'POST', `${config}/deactivate`)
  t.match((await call(as('acme'), 'PUT', config, { waba_id: 'other', verify_token: 'kept' })).body, noProof)
  const again = await call(as('acme', 'second'), 'POST', onboard, login())
  t.equal(again.is, '200')
  t.match(again.body, { ...fresh, waba_id: waba.id, verify_token: '****', id: first.body.id })
  t.not(again.body.onboarded_at, first.body.onboarded_at)
  t.equal((await call(as('other'), 'POST', onboard, login())).is, '409 PHONE_NUMBER_TAKEN')
  t.equal((await call(as('other'), 'GET', config)).is, '404 CONFIG_NOT_FOUND')
})

await t.test('a null token for a row without a token keeps the verification', async (t) => {
  const who = as('tokenless')
  await call(who, 'POST', config, { token_expires_at: full.token_expires_at })
  await sql(
    "update tenant_configs set onboarding_completed = true, last_verified_at = now() where tenant_id = 'tokenless'"
  )
  t.match((await call(who, 'PUT', config, { access_token: null })).body, {
    onboarding_completed: true,
    last_verified_at: String,
    token_expires_at: full.token_expires_at
  })
})

await t.test('an unreadable secret fails the reads in clear of its tenant until it is replaced', async (t) => {
  const who = await onboarded('damaged')
  const sound = await onboarded('sound')
  // The ciphertext of another column is authentic, but not valid in this one.
  await sql("update tenant_configs set fb_app_secret = verify_token where tenant_id = 'damaged'")
  const { is, body } = await call(who, 'GET', `${config}/full`)
  t.equal(is, '500 SECRET_UNREADABLE')
  t.notMatch(JSON.stringify(body), /fb_app_secret|v2\./)
  t.equal((await call(sound, 'GET', `${config}/full`)).is, '200')
  t.match(await call(who, 'GET', config), { is: '200', body: { fb_app_secret: '****', access_token: '****oken' } },
    'a masked answer opens nothing')
  t.equal((await call(admin, 'GET', `${configs}/all`)).is, '200')

  for (const [method, url, body] of [
    ['PUT', config, { callback_url: null }], ['POST', `${config}/deactivate`], ['POST', `${config}/activate`]
  ] as const) {
    const { is, body: after } = await call(who, method, url, body)
    t.equal(is, '200')
    t.match(after, {
      fb_app_secret: '****',
      access_token: '****oken',
      refresh_token: '****0003',
      callback_url: null,
      onboarding_completed: true
    })
  }
  t.equal((await call(who, 'PUT', config, { fb_app_secret: 'a-new-secret-0123456789' })).body.fb_app_secret, '****6789')
  t.equal((await call(who, 'GET', `${config}/full`)).body.fb_app_secret, 'a-new-secret-0123456789')
})

await t.test('a PUT of any token replaces an unreadable one as a new token', async (t) => {
  const who = await onboarded('damaged-token')
  await sql("update tenant_configs set access_token = 'garbage' where tenant_id = 'damaged-token'")
  t.match((await call(who, 'PUT', config, { callback_url: null })).body, { ...proof, access_token: '****' })
  t.match(
    (await call(who, 'PUT', config, { access_token: verified.access_token })).body,
    { ...noProof, access_token: '****oken' }
  )
  t.equal((await call(who, 'GET', `${config}/full`)).body.access_token, verified.access_token)
})

await t.test('a row with an unreadable token can be deleted', async (t) => {
  const who = await onboarded('hopeless')
  await sql("update tenant_configs set access_token = 'garbage' where tenant_id = 'hopeless'")
  t.equal((await call(who, 'DELETE', config)).is, '204')
})

await t.test('a PUT of the stored token keeps its ciphertext and its token state', async (t) => {
  const who = await onboarded('again')
  const kept = async () => await sql(
    'select access_token, status, checked_at, last_verified_at from tenant_configs join token_watch using ' +
      "(tenant_id) where tenant_id = 'again'"
  )
  await sql("update token_watch set status = 'ok', checked_at = now() where tenant_id = 'again'")
  const before = await kept()
  t.match(before, [{ access_token: /^v2\./, status: 'ok' }])
  t.match((await call(who, 'PUT', config, { access_token: verified.access_token, callback_url: null })).body, proof)
  t.same(await kept(), before)
  t.match((await call(who, 'PUT', config, { access_token: 'another' })).body, noProof)
  t.match(await kept(), [{ status: 'unverified', checked_at: null }])
})

await t.test('a PUT of the stored token seals it with the new key and keeps the verification', async (t) => {
  await onboarded('rotated')
  const rotated = await client(t, {
    DATABASE_URL: databaseUrl,
    ENCRYPTION_KEYS: `t2:${newKey()},${app.env.ENCRYPTION_KEYS}`
  })
  const put = await rotated.call(rotated.as('rotated'), 'PUT', config, { access_token: verified.access_token })
  t.match(put.body, proof)
  const [row] = await sql("select access_token from tenant_configs where tenant_id = 'rotated'")
  t.match(row, { access_token: /^v2\.t2\./ })
})
