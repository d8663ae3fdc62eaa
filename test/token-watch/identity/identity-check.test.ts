import t from '../../run/tap.js'
import { DAY, HOUR, assertNear } from '../watch.js'
import { BARE, watchIdentities } from './identity-watch.js'
import { app as platform } from '../../meta/wire.js'

const { meta, own, issue, account, revoked, asked, startService, reset } = await watchIdentities(t)
t.beforeEach(reset)

await t.test('a row written by hand is verified once, at the next check', async (t) => {
  const { post, poll, pollAll, verified, healthOf, log, tenantConfigs, configLoader } = await startService(t)
  const { ids, token } = account()
  await post('acme', { ...ids, access_token: token() })
  t.equal(await verified('acme'), undefined)
  t.equal(await configLoader.forPhoneNumber(ids.phone_number_id), null)
  await poll()
  t.same(await verified('acme'), ids)
  t.equal((await configLoader.forPhoneNumber(ids.phone_number_id))?.getPhoneId(), ids.phone_number_id)
  t.match(await tenantConfigs.find('acme'), { onboarding_completed: false, last_verified_at: String })
  t.same(asked().sort(), ['debug_token', 'phone_numbers'])
  t.match(meta.requests.find(({ route }) => route === 'phone_numbers')?.query, { appsecret_proof: /^[0-9a-f]{64}$/ })
  const { wait, ...health } = await healthOf('acme')
  t.match(health, { token_status: 'ok' })
  assertNear(t, wait, DAY)
  t.match(log(), 'verified the account and the number of a tenant')
  await pollAll()
  t.equal(asked().length, 4)
  t.equal(log().split('verified the account and the number of a tenant').length, 2)
})

await t.test('a row is verified without an app pair, by a call with the token alone', async (t) => {
  const { post, poll, verified, healthOf } = await startService(t, BARE)
  const { ids, token } = account()
  const app = meta.state.apps.get(platform.id)
  if (app !== undefined) app.require_proof = false
  await post('acme', { ...ids, access_token: token() })
  await poll()
  t.same(await verified('acme'), ids)
  t.same(asked(), ['phone_numbers'])
  t.same(Object.keys(meta.requests[0]?.query ?? {}).sort(), ['fields', 'limit'])
  t.match(await healthOf('acme'), { token_status: 'unverified', reason: 'no_app' })

  if (app !== undefined) app.require_proof = true
  await post('proof', { ...ids, access_token: token() })
  await poll()
  t.equal(await verified('proof'), undefined, 'an app that requires proofs refuses the call')
})

await t.test('a rejected app of the tenant does not prevent the verification of its identity', async (t) => {
  const { post, poll, verified, healthOf } = await startService(t)
  const { ids, token } = account(own.app_id)
  await post('acme', { ...ids, access_token: token(), fb_app_id: own.app_id, fb_app_secret: 'wrong' })
  await poll()
  t.same(await verified('acme'), ids)
  t.match(await healthOf('acme'), { token_status: 'unverified', reason: 'app_rejected' })

  const other = account(own.app_id)
  await post('pair', {
    ...other.ids,
    access_token: other.token(),
    fb_app_id: own.app_id,
    fb_app_secret: own.app_secret
  })
  await poll()
  t.same(await verified('pair'), other.ids)
  t.match(await healthOf('pair'), { token_status: 'ok' })
})

await t.test('ids that the token cannot read stay unverified', async (t) => {
  for (const env of [{}, BARE]) {
    const { post, poll, verified, healthOf } = await startService(t, env)
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
    await poll()
    for (const tenant of Object.keys(rows)) t.equal(await verified(tenant), undefined, tenant)
    for (const tenant of ['another number', 'a token of another account', 'no such account']) {
      assertNear(t, (await healthOf(tenant)).wait, HOUR)
    }
    if (env === BARE) continue
    t.match(await healthOf('a token of another account'), { token_status: 'ok' }, 'the token itself is valid')
    assertNear(t, (await healthOf('no account')).wait, DAY)
    t.match(await healthOf('a revoked token'), { token_status: 'revoked', reason: 'meta_190_460' })
  }
})

await t.test('a number missing at Meta is checked hourly on the first day, then daily', async (t) => {
  const { post, poll, pollAll, verified, healthOf, sql } = await startService(t)
  const { waba, ids, token } = account()
  const later = waba.phones.splice(0)
  await post('acme', { ...ids, access_token: token() })
  await poll()
  assertNear(t, (await healthOf('acme')).wait, HOUR)
  await sql(
    "alter table tenant_configs disable trigger user; update tenant_configs set updated_at = now() - interval '25 " +
      "hours'; alter table tenant_configs enable trigger user"
  )
  await pollAll()
  assertNear(t, (await healthOf('acme')).wait, DAY)
  waba.phones.push(...later)
  await pollAll()
  t.same(await verified('acme'), ids)
})

await t.test('an account without a number is verified without a number', async (t) => {
  const { post, poll, verified } = await startService(t)
  const { ids, token } = account()
  await post('acme', { waba_id: ids.waba_id, access_token: token() })
  await poll()
  t.same(await verified('acme'), { waba_id: ids.waba_id, phone_number_id: null })
})

await t.test('a claimed number goes to the first tenant whose token can read it', async (t) => {
  const { post, poll, pollAll, verified, healthOf, log } = await startService(t)
  const [{ ids, token }, other] = [account(), account()]
  await post('squatter', { ...ids, access_token: other.token() })
  await poll()
  await post('owner', { ...ids, access_token: token() })
  await poll()
  t.same([await verified('squatter'), await verified('owner')], [undefined, ids])

  await post('second', { ...ids, access_token: token() })
  await poll()
  t.same([await verified('second'), await verified('owner')], [undefined, ids])
  assertNear(t, (await healthOf('second')).wait, DAY)
  const lines = () => log().split('\n').filter((line) => line.includes('it is verified for another tenant'))
  t.equal(lines().length, 1)
  t.match(lines()[0], '"tenant_id":"second"')
  t.notMatch(lines()[0], 'owner')
  await pollAll()
  t.same([await verified('second'), await verified('owner')], [undefined, ids])
})

await t.test('a changed account, number or token is verified at the next check', async (t) => {
  const { post, put, poll, verified, healthOf } = await startService(t)
  const [one, other] = [account(), account()]
  const token = issue({ waba_ids: [one.waba.id, other.waba.id] })
  await post('acme', { ...one.ids, access_token: token })
  await poll()
  await put('acme', other.ids)
  t.equal(await verified('acme'), undefined)
  await poll()
  t.same(await verified('acme'), other.ids)
  await put('acme', { access_token: issue({ waba_ids: [other.waba.id] }) })
  t.equal(await verified('acme'), undefined)
  await poll()
  t.same(await verified('acme'), other.ids)

  await put('acme', { access_token: revoked(issue()) })
  await poll()
  reset()
  await put('acme', one.ids)
  await poll()
  t.same(asked(), [], 'a revoked token is not sent to Meta')
  t.match(await healthOf('acme'), { token_status: 'revoked' })
})

await t.test('a token that is extended in the same check verifies the identity', async (t) => {
  const { post, poll, verified } = await startService(t)
  const { ids, token } = account()
  await post('acme', { ...ids, access_token: token({ expires_in: 10 * 24 * 3600 }) })
  await poll()
  t.same(asked().sort(), ['debug_token', 'debug_token', 'extend', 'phone_numbers'])
  t.same(await verified('acme'), ids)
})
