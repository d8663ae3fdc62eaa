import t from '../run/tap.js'
import type { EnvSource } from '../../src/app.js'
import { BLOCK_MS, clock } from '../fixtures/clock.js'
import { DAY, FIVE_MINUTES, HOUR, near, watch } from './watch.js'
import { GraphError, temporarilyDown, throttled } from '../graph/errors.js'
import { buildTestApp, takeAway, until } from '../helper.js'
import { config } from '../routes/client.js'
import { app as platform } from '../meta/wire.js'
import type { Test } from 'tap'

const { meta, own, issue, watched, reset } = await watch(t)
t.beforeEach(reset)
const BARE = { FB_APP_ID: undefined, FB_APP_SECRET: undefined }

/** Starts a service; tenants write their rows through the API, and `verified` reads their verified ids. */
async function service (t: Test, env: EnvSource = {}) {
  const watching = await watched(t, env)
  const { app, as, sql } = watching
  const write = async (method: 'POST' | 'PUT', tenant: string, body: object) => {
    const { statusCode } = await app.inject({ method, url: config, headers: as(tenant), payload: body })
    t.equal(statusCode, method === 'POST' ? 201 : 200)
  }
  return {
    ...watching,
    post: async (tenant: string, body: object) => { await write('POST', tenant, body) },
    put: async (tenant: string, body: object) => { await write('PUT', tenant, body) },
    /** The verified account and number of a tenant; undefined if its current token is not verified. */
    async verified (tenant: string) {
      const [row] = await sql(`select v.waba_id, v.phone_number_id from verified_identities v join tenant_configs c using (tenant_id, waba_id)
        where tenant_id = $1 and last_verified_at is not null and v.phone_number_id is not distinct from c.phone_number_id`, [tenant])
      return row
    }
  }
}

/** Creates an account of an app with one number, and issues tokens that can read only this account. */
function account (app_id = platform.id) {
  const waba = meta.state.addWaba({ app_ids: [app_id] })
  const ids = { waba_id: waba.id, phone_number_id: String(waba.phones[0]?.id) }
  return { waba, ids, token: (more: object = {}) => issue({ app_id, waba_ids: [waba.id], ...more }) }
}

/** Revokes the token, as after a change of the password. */
function revoked (token: string): string {
  Object.assign(meta.state.tokens.get(token) ?? {}, { revoked: 460 })
  return token
}

const asked = () => meta.requests.map(({ route }) => route)

await t.test('a row written by hand is verified once, at the next check', async (t) => {
  const { post, look, again, verified, known, log, tenantConfigs, configLoader } = await service(t)
  const { ids, token } = account()
  await post('acme', { ...ids, access_token: token() })
  t.equal(await verified('acme'), undefined)
  t.equal(await configLoader.forPhoneNumber(ids.phone_number_id), null)
  await look()
  t.same(await verified('acme'), ids)
  t.equal((await configLoader.forPhoneNumber(ids.phone_number_id))?.getPhoneId(), ids.phone_number_id)
  t.match(await tenantConfigs.find('acme'), { onboarding_completed: false, last_verified_at: String })
  t.same(asked(), ['debug_token', 'phone_numbers'])
  t.match(meta.requests.at(-1)?.query, { appsecret_proof: /^[0-9a-f]{64}$/ })
  const { wait, ...health } = await known('acme')
  t.match(health, { token_status: 'ok' })
  near(t, wait, DAY)
  t.match(log(), 'verified the account and the number of a tenant')
  await again()
  t.same(asked(), ['debug_token', 'phone_numbers', 'debug_token'])
})

await t.test('a row is verified without an app pair, by a call with the token alone', async (t) => {
  const { post, look, verified, known } = await service(t, BARE)
  const { ids, token } = account()
  const app = meta.state.apps.get(platform.id)
  if (app !== undefined) app.require_proof = false
  await post('acme', { ...ids, access_token: token() })
  await look()
  t.same(await verified('acme'), ids)
  t.same(asked(), ['phone_numbers'])
  t.same(Object.keys(meta.requests[0]?.query ?? {}).sort(), ['fields', 'limit'])
  t.match(await known('acme'), { token_status: 'unverified', reason: 'no_app' })

  if (app !== undefined) app.require_proof = true
  await post('proof', { ...ids, access_token: token() })
  await look()
  t.equal(await verified('proof'), undefined, 'an app may demand proofs')
})

await t.test('a rejected app of the tenant does not prevent the verification of its identity', async (t) => {
  const { post, look, verified, known } = await service(t)
  const { ids, token } = account(own.app_id)
  await post('acme', { ...ids, access_token: token(), fb_app_id: own.app_id, fb_app_secret: 'wrong' })
  await look()
  t.same(await verified('acme'), ids)
  t.match(await known('acme'), { token_status: 'unverified', reason: 'app_rejected' })

  const other = account(own.app_id)
  await post('pair', {
    ...other.ids,
    access_token: other.token(),
    fb_app_id: own.app_id,
    fb_app_secret: own.app_secret
  })
  await look()
  t.same(await verified('pair'), other.ids)
  t.match(await known('pair'), { token_status: 'ok' })
})

await t.test('ids that the token cannot read stay unverified', async (t) => {
  for (const env of [{}, BARE]) {
    const { post, look, verified, known } = await service(t, env)
    const [one, other] = [account(own.app_id), account(own.app_id)]
    const pair = env === BARE ? {} : { fb_app_id: own.app_id, fb_app_secret: own.app_secret }
    const rows = {
      'another number': { ...one.ids, phone_number_id: other.ids.phone_number_id, access_token: one.token() },
      'a token of another account': { ...one.ids, access_token: other.token() },
      'no such account': { ...one.ids, waba_id: '1', access_token: one.token() },
      'a path': { ...one.ids, waba_id: 'a/../b', access_token: one.token() },
      'a revoked token': { ...one.ids, access_token: revoked(one.token()) },
      'no account': { phone_number_id: one.ids.phone_number_id, access_token: one.token() }
    }
    for (const [tenant, row] of Object.entries(rows)) await post(tenant, { ...row, ...pair })
    await look()
    for (const tenant of Object.keys(rows)) t.equal(await verified(tenant), undefined, tenant)
    for (const tenant of [
      'another number', 'a token of another account', 'no such account'
    ]) near(t, (await known(tenant)).wait, HOUR)
    if (env === BARE) continue
    t.match(await known('a token of another account'), { token_status: 'ok' }, 'no fault of the token')
    near(t, (await known('no account')).wait, DAY)
    t.match(await known('a revoked token'), { token_status: 'revoked', reason: 'meta_190_460' })
  }
})

await t.test('a number missing at Meta is checked hourly on the first day, then daily', async (t) => {
  const { post, look, again, verified, known, sql } = await service(t)
  const { waba, ids, token } = account()
  const later = waba.phones.splice(0)
  await post('acme', { ...ids, access_token: token() })
  await look()
  near(t, (await known('acme')).wait, HOUR)
  await sql(
    "alter table tenant_configs disable trigger user; update tenant_configs set updated_at = now() - interval '25 " +
      "hours'; alter table tenant_configs enable trigger user"
  )
  await again()
  near(t, (await known('acme')).wait, DAY)
  waba.phones.push(...later)
  await again()
  t.same(await verified('acme'), ids)
})

await t.test('an account without a number is verified without a number', async (t) => {
  const { post, look, verified } = await service(t)
  const { ids, token } = account()
  await post('acme', { waba_id: ids.waba_id, access_token: token() })
  await look()
  t.same(await verified('acme'), { waba_id: ids.waba_id, phone_number_id: null })
})

await t.test('a claimed number goes to the first tenant whose token can read it', async (t) => {
  const { post, look, again, verified, known, log } = await service(t)
  const [{ ids, token }, other] = [account(), account()]
  await post('squatter', { ...ids, access_token: other.token() })
  await look()
  await post('owner', { ...ids, access_token: token() })
  await look()
  t.same([await verified('squatter'), await verified('owner')], [undefined, ids])

  await post('second', { ...ids, access_token: token() })
  await look()
  t.same([await verified('second'), await verified('owner')], [undefined, ids])
  near(t, (await known('second')).wait, DAY)
  const lines = () => log().split('\n').filter((line) => line.includes('it is verified for another tenant'))
  t.equal(lines().length, 1)
  t.match(lines()[0], '"tenant_id":"second"')
  t.notMatch(lines()[0], 'owner')
  await again()
  t.same([await verified('second'), await verified('owner')], [undefined, ids])
})

await t.test('a changed account, number or token is verified at the next check', async (t) => {
  const { post, put, look, verified, known } = await service(t)
  const [one, other] = [account(), account()]
  const token = issue({ waba_ids: [one.waba.id, other.waba.id] })
  await post('acme', { ...one.ids, access_token: token })
  await look()
  await put('acme', other.ids)
  t.equal(await verified('acme'), undefined)
  await look()
  t.same(await verified('acme'), other.ids)
  await put('acme', { access_token: issue({ waba_ids: [other.waba.id] }) })
  t.equal(await verified('acme'), undefined)
  await look()
  t.same(await verified('acme'), other.ids)

  await put('acme', { access_token: revoked(issue()) })
  await look()
  reset()
  await put('acme', one.ids)
  await look()
  t.same(asked(), [], 'nothing is asked with a token that is dead')
  t.match(await known('acme'), { token_status: 'revoked' })
})

await t.test('a token that is extended in the same check verifies the identity', async (t) => {
  const { post, look, verified } = await service(t)
  const { ids, token } = account()
  await post('acme', { ...ids, access_token: token({ expires_in: 10 * 24 * 3600 }) })
  await look()
  t.same(asked(), ['debug_token', 'extend', 'debug_token', 'phone_numbers'])
  t.same(await verified('acme'), ids)
})

await t.test('a failed identity check is retried, and the finding of the token is kept', async (t) => {
  const { post, look, again, verified, known } = await service(t)
  const { goOn } = clock(t)
  const { ids, token } = account()
  await post('acme', { ...ids, access_token: token() })
  // The test advances only the clock of the process, not that of the database.
  let ahead = 0
  for (const reply of [temporarilyDown(), throttled(80007), new GraphError(400, 100, 'odd')]) {
    meta.fail('phone_numbers', { reply })
    await again()
    t.equal(await verified('acme'), undefined)
    const { wait, ...health } = await known('acme')
    t.match(health, { token_status: 'ok' })
    near(t, wait + ahead, FIVE_MINUTES)
    goOn(BLOCK_MS)
    ahead += BLOCK_MS
  }
  await again()
  t.same(await verified('acme'), ids)
  await look()
})

await t.test('a row that is written during its check stays unverified', async (t) => {
  const { post, put, look, verified } = await service(t)
  const { ids, token } = account()
  await post('acme', { ...ids, access_token: token() })
  meta.fail('phone_numbers', { latency_ms: 500 })
  const looking = look()
  await until(() => asked().includes('phone_numbers'))
  await put('acme', { phone_number_id: '404' })
  await looking
  t.equal(await verified('acme'), undefined)
})

await t.test('an identity check that a database outage interrupts is repeated', async (t) => {
  const { post, look, again, verified, databaseUrl, log } = await service(t)
  const { ids, token } = account()
  await post('acme', { ...ids, access_token: token() })
  meta.fail('phone_numbers', { latency_ms: 1500 })
  const looking = look()
  await until(() => asked().includes('phone_numbers'))
  const giveBack = await takeAway(databaseUrl)
  await looking
  t.match(log(), 'the check of a token failed; it is tried again')
  await giveBack()
  await again()
  t.same(await verified('acme'), ids)
})

await t.test('a service closes without waiting for Meta and leaves the identity check due', async (t) => {
  const { post, env, sql } = await service(t, { GRAPH_TIMEOUT_MS: 60_000 })
  const { ids, token } = account()
  await post('acme', { ...ids, access_token: token() })
  meta.fail('phone_numbers', { latency_ms: 60_000 })
  const { app } = await buildTestApp(t, env)
  await until(() => asked().includes('phone_numbers'))
  const began = performance.now()
  await app.close()
  t.ok(performance.now() - began < 3000)
  t.match(await sql('select status, next_check_at <= now() as due from token_watch'), [{ status: 'ok', due: true }])
})
