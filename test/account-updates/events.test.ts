import { createHash, createHmac } from 'node:crypto'
import pLimit from 'p-limit'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { connect, takeAway, until, untilWaiting } from '../helper.js'
import { base, client, config } from '../routes/client.js'

const SECRET = 'the secret of the app'
const FORMER = 'a former app secret'
const OLDER = 'a much older app secret'
const VERIFY_TOKEN = 'the v\u00e9rify & token'
const url = `${base}/onboard/account-update`
const service = await client(t, {
  FB_APP_ID: '42',
  FB_APP_SECRET: SECRET,
  FB_APP_SECRETS_PREVIOUS: ` ${FORMER} , ,${OLDER},`,
  WEBHOOK_VERIFY_TOKEN: VERIFY_TOKEN
})
const { app, as, call, sql, log, databaseUrl } = service

const sign = (body: string | Buffer, secret = SECRET) =>
  `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`
const signed = (body: string | Buffer, secret?: string) => ({
  'content-type': 'application/json',
  'x-hub-signature-256': sign(body, secret)
})

/** Sends a signed body; returns status and code. */
const deliver = async (body: unknown) => {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  return (await call({}, 'POST', url, text, signed(text))).is
}

let deliveries = 0
/** A webhook body with one change. The default `time` makes each body a new delivery. */
function update (
  event: string,
  { waba, entry = '524126980791429', time = ++deliveries }: { waba?: unknown, entry?: unknown, time?: unknown }
) {
  const info = waba === undefined ? {} : { waba_info: { waba_id: waba, owner_business_id: '524126980791429' } }
  return {
    object: 'whatsapp_business_account',
    entry: [{ id: entry, time, changes: [{ field: 'account_update', value: { event, ...info } }] }]
  }
}

let wabas = 0
/** Creates `count` tenants, each on its own account; returns the ids, which tenant and account share. */
async function tenants (count: number, fields: object = {}): Promise<string[]> {
  const ids = Array.from({ length: count }, () => `waba-${++wabas}`)
  for (const id of ids) await call(as(id), 'POST', config, { waba_id: id, access_token: `token-of-${id}`, ...fields })
  return ids
}

const isActive = async (tenantId: string) => (await call(as(tenantId), 'GET', config)).body['is_active']
const state = async () => [
  await service.rows(),
  await sql('select * from token_watch order by tenant_id'),
  await sql('select * from webhook_deliveries order by digest'),
  await sql('select * from events_outbox')
]

/** Asserts that `work` writes nothing to the database. */
async function changesNothing (t: Test, work: () => Promise<void>) {
  const before = await state()
  await work()
  t.same(await state(), before)
}

await t.test('each event of a lost account deactivates its tenants and records the reason', async (t) => {
  for (const event of ['PARTNER_REMOVED', 'PARTNER_APP_UNINSTALLED', 'ACCOUNT_DELETED']) {
    const [waba = '', other = ''] = await tenants(2)
    const [second = '', bare = ''] = [`${waba} too`, `${waba} without a token`]
    await call(as(second), 'POST', config, { waba_id: waba, access_token: 'x', phone_number_id: `phone on ${waba}` })
    await call(as(bare), 'POST', config, { waba_id: waba })
    for (const id of [waba, second, bare, other]) await app.configLoader.forTenant(id)
    const told: unknown[] = []
    t.teardown(app.tokenWatch.onTransition(({ tenant_id, to, reason }) => { told.push([tenant_id, to, reason]) }))

    t.equal(await deliver(update(event, { waba })), '200')
    for (const id of [waba, second, bare]) {
      t.equal(await isActive(id), false, id)
      t.equal((await app.configLoader.forTenant(id)).hasTenantConfig(), false, 'the loader is told')
      t.match(log(), new RegExp(`"level":40[^\\n]*"tenant_id":"${id}","waba_id":"${waba}","event":"${event}"`))
    }
    t.equal(await isActive(other), true)
    t.same(told.sort(), [[waba, 'revoked', event], [second, 'revoked', event]].sort())
    for (const id of [waba, second]) {
      t.match(await app.tokenWatch.healthOf(id), { token_status: 'revoked', reason: event })
    }
    t.match(await app.tokenWatch.healthOf(other), { token_status: 'unverified', reason: null })
  }
})

await t.test('another event, or a body without a valid account id, changes nothing', async (t) => {
  const [waba = ''] = await tenants(1)
  const all = [
    'AD_ACCOUNT_LINKED', 'PARTNER_ADDED', 'PARTNER_APP_INSTALLED', 'DISABLED_UPDATE', 'ACCOUNT_OFFBOARDED',
    'ACCOUNT_RECONNECTED', 'ACCOUNT_VIOLATION', 'partner_removed', 'PARTNER_REMOVED ', '', 'toString'
  ]
  const change = update('PARTNER_REMOVED', { waba }).entry[0]?.changes[0]
  await changesNothing(t, async () => {
    for (const event of all) t.equal(await deliver(update(event, { waba, entry: waba })), '200', event)
    for (const body of [
      null, 1, 'text', [], {}, { object: 'page', entry: update('PARTNER_REMOVED', { waba }).entry },
      { entry: update('PARTNER_REMOVED', { waba }).entry },
      {
        object: 'whatsapp_business_account'
      }, { object: 'whatsapp_business_account', entry: {} }, { object: 'whatsapp_business_account', entry: [] },
      ...[null, 1, [], {}, { id: waba }, {
        id: waba,
        changes: {}
      }, { id: waba, changes: [] }, { id: waba, changes: [null, 1, {}, [change]] },
      { id: waba, changes: [{ ...change, field: 'messages' }] }, { id: waba, changes: [{ value: change?.value }] },
      { id: waba, changes: [{ field: 'account_update' }] },
      { id: waba, changes: [{ field: 'account_update', value: null }] }, {
        id: waba,
        changes: [{ field: 'account_update', value: { event: ['PARTNER_REMOVED'], waba_info: { waba_id: waba } } }]
      }
      ].map((entry) => ({ object: 'whatsapp_business_account', entry: [entry] }))
    ]) t.equal(await deliver(JSON.stringify(body)), '200', JSON.stringify(body))
    for (const odd of [1, null, [waba], { id: waba }, '', 'x'.repeat(256), `${waba}\0`, '\ud800']) {
      t.equal(await deliver(update('PARTNER_REMOVED', { waba: odd, entry: waba })), '200')
      if (typeof odd === 'string') t.equal(await deliver(update('ACCOUNT_DELETED', { waba: odd, entry: waba })), '200')
      t.equal(await deliver(update('ACCOUNT_DELETED', { entry: odd })), '200')
    }
    t.equal(await deliver('['.repeat(100_000) + ']'.repeat(100_000)), '200')
  })
})

await t.test('the id of an entry counts as the account only for ACCOUNT_DELETED without waba_info', async (t) => {
  for (const event of ['PARTNER_REMOVED', 'PARTNER_APP_UNINSTALLED']) {
    const [account = '', business = ''] = await tenants(2)
    await changesNothing(t, async () => { t.equal(await deliver(update(event, { entry: business })), '200') })
    t.equal(await deliver(update(event, { waba: account, entry: business })), '200')
    t.strictSame([await isActive(account), await isActive(business)], [false, true], 'that of a business')
  }
  const [named = '', entry = ''] = await tenants(2)
  t.equal(await deliver(update('ACCOUNT_DELETED', { waba: named, entry })), '200')
  t.strictSame([await isActive(named), await isActive(entry)], [false, true], 'the account that is named')
  t.equal(await deliver(update('ACCOUNT_DELETED', { entry })), '200')
  t.equal(await isActive(entry), false, 'that of the account')
})

await t.test('an event more than 5 seconds older than the onboarding leaves the tenant active', async (t) => {
  const onboarded = 1_795_435_200
  const [waba = ''] = await tenants(1)
  const [never = '', early = ''] = [`${waba} by hand`, `${waba} before`]
  for (const id of [never, early]) await call(as(id), 'POST', config, { waba_id: waba, access_token: 'x' })
  const reset = async () => {
    await sql('update tenant_configs set is_active = true where waba_id = $1', [waba])
    await sql('update tenant_configs set onboarded_at = to_timestamp($2) where tenant_id = $1', [waba, onboarded])
    await sql(
      'update tenant_configs set onboarded_at = to_timestamp($2) where tenant_id = $1',
      [early, onboarded - 3600]
    )
  }
  const left = () => log().split(
    `"tenant_id":"${waba}","waba_id":"${waba}","event":"PARTNER_REMOVED","msg":"left a tenant as it is`
  ).length - 1

  await reset()
  t.equal(await deliver(update('PARTNER_REMOVED', { waba, time: onboarded - 6 })), '200')
  t.strictSame(
    [await isActive(waba), await isActive(never), await isActive(early)],
    [true, false, false],
    'the others are another matter'
  )
  t.match(await app.tokenWatch.healthOf(waba), { token_status: 'unverified', reason: null })
  t.equal(left(), 1)
  t.match(log(), /"level":30[^\n]*left a tenant as it is/)

  // The clocks may differ by 5 seconds; an invalid time counts as none.
  for (const time of [
    onboarded - 5, onboarded, onboarded + 3600, onboarded * 1000, undefined, null, String(onboarded - 6), -1, 1e300,
    1.5, {}
  ]) {
    await reset()
    const body = update('PARTNER_REMOVED', { waba, time })
    if (time === undefined) delete body.entry[0]?.time
    t.equal(await deliver(JSON.stringify({ ...body, nonce: ++deliveries })), '200')
    t.equal(await isActive(waba), false, String(time))
  }

  for (const times of [[onboarded - 6, onboarded + 1], [onboarded + 1, onboarded - 6], [undefined, onboarded - 6]]) {
    await reset()
    const entry = times.flatMap((time) => [...update('PARTNER_REMOVED', { waba, time: time ?? null }).entry, null])
    t.equal(await deliver({ object: 'whatsapp_business_account', entry, nonce: ++deliveries }), '200')
    t.equal(await isActive(waba), false, 'the latest of several counts')
  }
  t.equal(left(), 1)
})

await t.test('an unknown account is recorded as seen, and invalid entries do not stop valid ones', async (t) => {
  const [waba = ''] = await tenants(1)
  const unknown = update('PARTNER_REMOVED', { waba: 'not here yet' })
  t.equal(await deliver(unknown), '200')
  await call(as('late'), 'POST', config, { waba_id: 'not here yet' })
  await changesNothing(t, async () => { t.equal(await deliver(unknown), '200') })
  const body = update('PARTNER_REMOVED', { waba })
  t.equal(
    await deliver({
      ...body,
      entry: [null, { id: 1, changes: [] }, { changes: [7, ...body.entry[0]?.changes ?? []] }]
    }),
    '200'
  )
  t.equal(await isActive(waba), false)
})

await t.test('a delivery with a thousand entries updates the tenants in one statement', async (t) => {
  const known = await tenants(3)
  const ids = [...known, ...Array.from({ length: 997 }, (_, i) => `unknown-${i}`)]
  await sql(
    'create table updates (n int); create function count_updates() returns trigger language plpgsql as $$ begin ' +
      'insert into updates values (1); return null; end $$'
  )
  await sql(
    'create trigger count_updates after update on tenant_configs for each statement execute function count_updates()'
  )
  t.equal(
    await deliver({
      object: 'whatsapp_business_account',
      entry: ids.flatMap((waba) => update('ACCOUNT_DELETED', { entry: waba }).entry)
    }),
    '200'
  )
  t.equal((await sql('select * from updates')).length, 1)
  await sql('drop function count_updates cascade; drop table updates')
  for (const id of known) t.equal(await isActive(id), false)
})

await t.test('only a signature of the exact bytes with a current or previous app secret is accepted', async (t) => {
  const [waba = '', left = ''] = await tenants(2)
  const body = `{"object":"whatsapp_business_account", "entry":[{"id":"1","changes":[{"field":"account_update","value":{"event":"PARTNER_REMOVED","note":"caf\\u00e9 \\ud83d\\ude00","waba_info":{"waba_id":"${waba}"}}}]}]}`
  const hex = sign(body).slice(7)
  const refused: Array<[string, Record<string, string>, (string | Buffer)?]> = [
    ['none', {}],
    ['empty', { 'x-hub-signature-256': '' }],
    ['the prefix alone', { 'x-hub-signature-256': 'sha256=' }],
    ['too short', { 'x-hub-signature-256': sign(body).slice(0, -1) }],
    ['too long', { 'x-hub-signature-256': `${sign(body)}0` }],
    ['as long in characters, not in bytes', { 'x-hub-signature-256': `${sign(body).slice(0, -1)}\u00e9` }],
    ['without its prefix', { 'x-hub-signature-256': hex }],
    ['upper case', { 'x-hub-signature-256': `sha256=${hex.toUpperCase()}` }],
    ['an upper-case prefix', { 'x-hub-signature-256': `SHA256=${hex}` }],
    ['twice', { 'x-hub-signature-256': `${sign(body)}, ${sign(body)}` }],
    ['with blanks', { 'x-hub-signature-256': `sha256= ${hex}` }],
    ['sha1 alone', { 'x-hub-signature': `sha1=${createHmac('sha1', SECRET).update(body).digest('hex')}` }],
    ['in the other header', { 'x-hub-signature': sign(body) }],
    ['a plain digest', { 'x-hub-signature-256': `sha256=${createHash('sha256').update(body).digest('hex')}` }],
    ['another secret', signed(body, 'another')],
    ['the empty secret', signed(body, '')],
    ['the list of secrets', signed(body, ` ${FORMER} , ,${OLDER},`)],
    ['the verify token', signed(body, VERIFY_TOKEN)],
    ['another body', signed(body), body.replace(waba, left)],
    ['a byte more', signed(body), `${body} `],
    ['a byte less', signed(body), body.slice(0, -1)],
    ['JSON written anew', signed(body), JSON.stringify(JSON.parse(body))],
    ['escapes written out', signed(body), body.replace('\\u00e9', '\u00e9')],
    ['what is no JSON', signed('{'), '{{'],
    ['nothing', signed('{'), '']
  ]
  await changesNothing(t, async () => {
    for (const [what, headers, sent = body] of refused) {
      const answer = await call({}, 'POST', url, sent, headers)
      t.strictSame([answer.is, answer.headers['www-authenticate']], ['401 SIGNATURE_INVALID', 'HMAC-SHA256'], what)
    }
    // A bearer token does not replace the signature.
    t.equal((await call(as(waba), 'POST', url, body)).is, '401 SIGNATURE_INVALID')
  })
  t.equal(await isActive(waba), true)
  for (const secret of [FORMER, OLDER]) {
    const [waba = ''] = await tenants(1)
    const text = JSON.stringify(update('PARTNER_REMOVED', { waba }))
    t.equal((await call({}, 'POST', url, text, signed(text, secret))).is, '200', secret)
    t.equal(await isActive(waba), false)
  }
  t.equal((await call({}, 'POST', url, body, signed(body))).is, '200')
  t.strictSame([await isActive(waba), await isActive(left)], [false, true])
})

await t.test('a signed body of any content type and up to 3 MiB is accepted', async (t) => {
  for (const type of [
    undefined, 'text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data',
    'application/json; charset=latin1', 'nonsense', 'application/'
  ]) {
    const [waba = ''] = await tenants(1)
    const text = JSON.stringify(update('PARTNER_REMOVED', { waba }))
    const { is, body } = await call({}, 'POST', url, Buffer.from(text), {
      'x-hub-signature-256': sign(text),
      ...type !== undefined && { 'content-type': type }
    })
    t.strictSame([is, body], ['200', { success: true }], String(type))
    t.equal(await isActive(waba), false)
  }
  const [waba = ''] = await tenants(1)
  const text = JSON.stringify(update('PARTNER_REMOVED', { waba }))
  const longer = text.padEnd(3 * 1024 * 1024 + 1)
  t.equal((await call({}, 'POST', url, longer, signed(longer))).is, '413 PAYLOAD_TOO_LARGE')
  t.equal(await isActive(waba), true)
  const longest = text.padEnd(3 * 1024 * 1024)
  t.equal(
    (await call({}, 'POST', `${url}?route=a&route=b`, longest, signed(longest))).is,
    '200',
    'with what the URL has besides'
  )
  t.equal(await isActive(waba), false)
})

await t.test('a signed body that is not JSON in UTF-8 is a 400', async (t) => {
  await changesNothing(t, async () => {
    for (const body of ['', ' ', '{', 'a=b', '{}{}', Buffer.from('"\xff"', 'latin1'), Buffer.from('{}', 'utf16le')]) {
      t.equal((await call({}, 'POST', url, body, signed(body))).is, '400 MALFORMED_JSON')
    }
  })
})

await t.test('a repeated delivery changes nothing; 50 concurrent posts of one count once', async (t) => {
  const [waba = ''] = await tenants(1)
  const text = JSON.stringify(update('PARTNER_REMOVED', { waba }))
  const told: string[] = []
  t.teardown(app.tokenWatch.onTransition(({ tenant_id }) => { told.push(tenant_id) }))
  // The service reads at most 8 deliveries at once.
  const limit = pLimit(8)
  const answers = await Promise.all(
    Array.from({ length: 50 }, async () => await limit(async () => await call({}, 'POST', url, text, signed(text))))
  )
  t.ok(answers.every(({ is }) => is === '200'))
  t.same(told, [waba])
  t.equal(log().split(`"tenant_id":"${waba}","waba_id"`).length, 2, 'one line')
  await call(as(waba), 'POST', `${config}/activate`)
  await changesNothing(t, async () => { t.equal(await deliver(text), '200') })
  t.equal(await isActive(waba), true)
  t.equal(await deliver(`${text}\n`), '200')
  t.equal(await isActive(waba), false, 'other bytes are another delivery')
})

await t.test('two concurrent deliveries of the same accounts in opposite order do not deadlock', async (t) => {
  const ids = await tenants(6)
  const body = (ids: string[]) => JSON.stringify({
    object: 'whatsapp_business_account',
    entry: ids.flatMap((waba) => update('PARTNER_REMOVED', { waba }).entry)
  })
  const other = await connect(t, databaseUrl)
  await other.query('begin; select from tenant_configs for update')
  const answers = [body(ids), body(ids.toReversed())].map(deliver)
  await untilWaiting(databaseUrl, 2)
  await other.query('rollback')
  t.strictSame(await Promise.all(answers), ['200', '200'])
})

await t.test('a delivery during a database outage is a 503, and its retry is processed', async (t) => {
  const [waba = ''] = await tenants(1)
  const text = JSON.stringify(update('PARTNER_REMOVED', { waba }))
  const giveBack = await takeAway(databaseUrl)
  t.equal(await deliver(text), '503 DATABASE_UNAVAILABLE')
  t.equal(await deliver(update('PARTNER_ADDED', { waba })), '200', 'what needs no database')
  await giveBack()
  await until(async () => await deliver(text) === '200')
  t.equal(await isActive(waba), false)

  // The last statement fails, which rolls back all statements before it.
  const [late = ''] = await tenants(1)
  const again = JSON.stringify(update('PARTNER_REMOVED', { waba: late }))
  await sql(
    "create function away() returns trigger language plpgsql as $$ begin raise sqlstate '57014'; end $$; create " +
      'trigger away before update on token_watch for each row execute function away()'
  )
  await changesNothing(t, async () => { t.equal(await deliver(again), '503 DATABASE_UNAVAILABLE') })
  await sql('drop function away cascade')
  t.equal(await deliver(again), '200')
  t.equal(await isActive(late), false)
})

await t.test('the challenge is returned only for the right verify token', async (t) => {
  const verify = async (query: Record<string, string>, at = app) => {
    const { statusCode, headers, body } = await at.inject({ url, query })
    return { is: statusCode === 200 ? '200' : `${statusCode} ${JSON.parse(body).code}`, headers, body }
  }
  const good = { 'hub.mode': 'subscribe', 'hub.challenge': '1158201444', 'hub.verify_token': VERIFY_TOKEN }
  for (const challenge of [
    '1158201444', ' <script>alert(1)</script>&"\u00e9\u{1f600} ', '{"a":1}', 'x'.repeat(512), '\u{1f600}'.repeat(512),
    '0'
  ]) {
    const { is, headers, body } = await verify({ ...good, 'hub.challenge': challenge, 'hub.other': '1', x: '' })
    t.strictSame([is, body], ['200', challenge])
    t.match(headers, {
      'content-type': 'text/plain; charset=utf-8',
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store'
    })
  }
  for (const challenge of ['', 'x'.repeat(513), 'a\nb', '\0', '\x85']) {
    t.equal(
      (await verify({ ...good, 'hub.challenge': challenge })).is,
      '400 VALIDATION_FAILED',
      challenge
    )
  }
  for (const token of ['', 'x', VERIFY_TOKEN.slice(1), `${VERIFY_TOKEN} `, VERIFY_TOKEN.toUpperCase(), SECRET]) {
    t.equal((await verify({ ...good, 'hub.verify_token': token })).is, '403 VERIFY_TOKEN_MISMATCH', token)
  }
  const strangers: Array<Record<string, string>> = [
    {}, { ...good, 'hub.mode': 'unsubscribe' }, { 'hub.challenge': 'a\nb' }
  ]
  for (const query of strangers) t.equal((await verify(query)).is, '403 VERIFY_TOKEN_MISMATCH')
  t.equal((await verify({ 'hub.mode': 'subscribe', 'hub.verify_token': VERIFY_TOKEN })).is, '400 VALIDATION_FAILED')
  const twice = `hub.verify_token=${encodeURIComponent(VERIFY_TOKEN)}`
  t.equal(
    (await call({}, 'GET', `${url}?hub.mode=subscribe&hub.challenge=1&${twice}&${twice}`)).is,
    '403 VERIFY_TOKEN_MISMATCH'
  )
  t.notMatch(log(), /1158201444|v\u00e9rify/)

  const bare = await client(t)
  for (const token of ['', 'undefined', 'null', VERIFY_TOKEN]) {
    t.equal(
      (await verify({ ...good, 'hub.verify_token': token }, bare.app)).is,
      '403 VERIFY_TOKEN_MISMATCH'
    )
  }
  for (const secret of ['', 'undefined', SECRET]) {
    t.equal(
      (await bare.call({}, 'POST', url, '{}', signed('{}', secret))).is,
      '401 SIGNATURE_INVALID',
      'no secret, no signature'
    )
  }
  const former = await client(t, { FB_APP_SECRETS_PREVIOUS: FORMER })
  t.equal((await former.call({}, 'POST', url, '{}', signed('{}', FORMER))).is, '200')
})
