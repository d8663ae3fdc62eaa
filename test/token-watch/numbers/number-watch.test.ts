import t from '../../run/tap.js'
import { GraphError, temporarilyDown, throttled } from '../../graph/errors.js'
import { assertNear, DAY, S_PER_DAY } from '../watch.js'
import { BLOCK_MS, clock } from '../../fixtures/clock.js'
import { startWithMetaFault } from '../../fixtures/fault-injection.js'
import { watchIdentities } from '../identity/identity-watch.js'

const { meta, own, account, revoked, asked, startService, reset } = await watchIdentities(t)
t.beforeEach(reset)

/** Starts a service with a tenant whose number is connected, and checks it once. */
async function startWithNumber (t: Parameters<typeof startService>[0], grant: object = {}) {
  const service = await startService(t)
  const { waba, ids, token } = account()
  const [phone] = waba.phones
  if (phone === undefined) throw new Error('the account has no number')
  phone.registered = true
  const access_token = token(grant)
  await service.post('acme', { ...ids, access_token })
  await service.poll()
  return {
    ...service,
    waba,
    phone,
    ids,
    token: access_token,
    number: async () => (await service.sql('select * from phone_numbers'))[0],
    events: () => service.transitions.map(({ type, from, to, reason }) => [type, from, to, reason]),
    /** The state in the health of the tenant. */
    async state () {
      const { number_status, number_reason } = await service.tokenWatch.healthOf('acme') ?? {}
      return [number_status, number_reason]
    }
  }
}

await t.test('each check records what Meta tells of the number, and reports what breaks sending', async (t) => {
  const { ids, phone, waba, number, state, events, pollAll } = await startWithNumber(t)
  t.same(await state(), ['ok', null])
  t.match(await number(), {
    ...ids,
    waba_id: undefined,
    display_phone_number: phone['display_phone_number'],
    verified_name: 'Lucky Shrub',
    quality_rating: 'GREEN',
    status: 'CONNECTED',
    platform_type: 'CLOUD_API',
    reported: null
  })
  for (const [change, expected] of [
    [{ quality_rating: 'RED' }, ['low_quality', 'RED']],
    [{ quality_rating: 'GREEN', status: 'RESTRICTED' }, ['restricted', 'RESTRICTED']],
    [{ status: 'MIGRATED' }, ['missing', 'MIGRATED']],
    [{ status: 'CONNECTED', verified_name: 'A\0new name' }, ['ok', null]]
  ] as const) {
    Object.assign(phone, change)
    await pollAll()
    t.same(await state(), expected)
  }
  t.match(await number(), { verified_name: 'Anew name', number_status: 'ok', reported: 'ok' })
  const listed = waba.phones.splice(0)
  await pollAll()
  t.same(await state(), ['missing', null])
  t.match(await number(), { verified_name: 'Anew name', status: 'CONNECTED' }, 'earlier facts stay')
  await pollAll()
  waba.phones.push(...listed)
  await pollAll()
  t.same(events(), [
    ['number.low_quality', 'ok', 'low_quality', 'RED'],
    ['number.restricted', 'low_quality', 'restricted', 'RESTRICTED'],
    ['number.missing', 'restricted', 'missing', 'MIGRATED'],
    ['number.recovered', 'missing', 'ok', null],
    ['number.missing', 'ok', 'missing', null],
    ['number.recovered', 'missing', 'ok', null]
  ])
})

await t.test('a check that finds nothing new does not write the number', async (t) => {
  const { sql, pollAll } = await startWithNumber(t)
  const version = async () => await sql('select xmin::text, xmax::text from phone_numbers')
  const before = await version()
  await pollAll()
  t.equal(asked().length, 4)
  t.same(await version(), before)
})

await t.test('a token that sees its account no more makes the number missing; other failures do not', async (t) => {
  const { pollAll, healthOf, state, waba, number } = await startWithNumber(t)
  const { advance } = clock(t)
  const before = await number()
  for (const reply of [temporarilyDown(), throttled(80007), new GraphError(403, 200, 'Permissions error')]) {
    meta.fail('phone_numbers', { reply })
    await pollAll()
    t.same(await number(), before)
    t.match(await healthOf('acme'), { token_status: 'ok' })
    advance(BLOCK_MS)
  }
  waba.app_ids = []
  await pollAll()
  t.same(await state(), ['missing', null])
})

await t.test('a dead token tells nothing of the number', async (t) => {
  const { pollAll, token, number, healthOf } = await startWithNumber(t)
  const before = await number()
  revoked(token)
  await pollAll()
  t.match(await healthOf('acme'), { token_status: 'revoked' })
  t.same(await number(), before)
})

await t.test('a number that is not registered is pending, and no number is none', async (t) => {
  const { post, poll, tokenWatch, transitions, sql } = await startService(t)
  const { ids, token } = account()
  await post('new', { ...ids, access_token: token() })
  await post('without', { waba_id: ids.waba_id, access_token: token() })
  await post('no account', { phone_number_id: 'x', access_token: token() })
  await poll()
  t.match(await tokenWatch.healthOf('new'), { number_status: 'pending', number_reason: 'PENDING' })
  t.match(await tokenWatch.healthOf('without'), { number_status: 'none', number_reason: null })
  t.match(await tokenWatch.healthOf('no account'), { number_status: 'unknown', number_reason: null })
  t.same(transitions, [])
  t.equal((await sql('select from phone_numbers')).length, 1)
})

await t.test('what was listed for other ids than the row has now is dropped', async (t) => {
  const { put, pollAll, number, sql } = await startWithNumber(t)
  for (const other of [{ phone_number_id: '404' }, { waba_id: '405' }]) {
    meta.fail('phone_numbers', { latency_ms: 500 })
    const { answer: polling } = await startWithMetaFault(meta, 'debug_token', {}, pollAll)
    await put('acme', other)
    await polling
    t.equal(await number(), undefined)
    t.same(await sql('select * from verified_identities'), [])
  }
})

await t.test('a check makes four calls at most: beside the two of each, those of an extension', async (t) => {
  const { phone, pollAll, state, healthOf } = await startWithNumber(t, { expires_in: 10 * S_PER_DAY })
  t.same(asked().sort(), ['debug_token', 'debug_token', 'extend', 'phone_numbers'])
  phone['status'] = 'BANNED'
  await pollAll()
  t.same(asked().slice(4).sort(), ['debug_token', 'phone_numbers'])
  t.same(await state(), ['restricted', 'BANNED'])
  assertNear(t, (await healthOf('acme')).wait, DAY)
})

await t.test('without a usable app the token alone tells of an unverified number', async (t) => {
  const { post, poll, sql, healthOf } = await startService(t)
  const { waba, ids, token } = account(own.app_id)
  for (const phone of waba.phones) phone.registered = true
  await post('acme', { ...ids, access_token: token(), fb_app_id: own.app_id, fb_app_secret: 'wrong' })
  await poll()
  t.match(await healthOf('acme'), { token_status: 'unverified', reason: 'app_rejected', number_status: 'ok' })
  t.equal(asked().length, 3, 'a call beside, and one with the token alone')
  reset()
  await sql('update token_watch set next_check_at = now()')
  await poll()
  t.same(asked().sort(), ['debug_token', 'phone_numbers'], 'a verified number needs no further call')
})

await t.test('a token that cannot be opened, without an app, is unreadable', async (t) => {
  const { post, sql, poll, healthOf } = await startService(t, { FB_APP_ID: undefined, FB_APP_SECRET: undefined })
  const { ids, token } = account()
  await post('acme', { ...ids, access_token: token() })
  await sql("update tenant_configs set access_token = 'v1.t1.tampered'")
  await poll()
  t.match(await healthOf('acme'), { token_status: 'unverified', reason: 'unreadable' })
  t.same(asked(), [])
})
