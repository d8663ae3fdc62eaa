import type { Test } from 'tap'
import t from '../run/tap.js'
import { GraphError, temporarilyDown, tokenRefused } from '../graph/errors.js'
import { faults, type Fault } from '../graph/faults.js'
import type { Waba } from '../graph/state.js'
import { app as platform, standIn } from '../meta/wire.js'
import { connect, until, untilWaiting } from '../helper.js'
import { verifyStored } from '../fixtures/verified-rows.js'
import { client, config } from '../routes/client.js'

const leave = `${config}?unsubscribe=true`
const force = `${leave}&force=true`
const { meta } = await standIn(t)
const env = {
  GRAPH_API_BASE_URL: meta.url,
  GRAPH_TIMEOUT_MS: 1500,
  FB_APP_ID: platform.id,
  FB_APP_SECRET: platform.secret
}
const { as, call, sql, log, rows, databaseUrl, app } = await client(t, env)
t.beforeEach(() => {
  meta.clearFaults()
  meta.requests.length = 0
})

const issue = (of = platform.id) => meta.state.issueToken({ app_id: of })
const unsubscribed = () => meta.requests.filter(({ route }) => route === 'unsubscribe').length
const newWaba = (apps = [platform.id]) => meta.state.addWaba({
  app_ids: apps,
  subscriptions: Object.fromEntries(apps.map((id) => [id, {}]))
})

let tenants = 0
/** A tenant on an account whose webhooks go to our app; verified unless the fields remove the account. */
async function tenant (fields: object = {}, waba: Waba = newWaba()) {
  const id = `tenant-${++tenants}`
  t.equal(
    (await call(as(id), 'POST', config, {
      waba_id: waba.id,
      phone_number_id: `phone of ${id}`,
      access_token: issue(),
      ...fields
    })).is,
    '201'
  )
  await verifyStored(app, id)
  return { id, who: as(id), waba }
}

/** Asserts that the configuration of the tenant is deleted, or is not. */
const isGone = async (t: Test, who: Record<string, string>, gone = true) => {
  t.equal(
    (await call(who, 'GET', config)).is,
    gone ? '404 CONFIG_NOT_FOUND' : '200'
  )
}

await t.test('unsubscribe=true unsubscribes our app and deletes the configuration', async (t) => {
  const { who, waba } = await tenant()
  const neighbour = await tenant()
  t.equal((await call(who, 'DELETE', leave)).is, '204')
  t.strictSame([waba.subscriptions.size, unsubscribed()], [0, 1])
  await isGone(t, who)
  await isGone(t, neighbour.who, false)
  t.equal(neighbour.waba.subscriptions.size, 1)
  t.equal((await call(who, 'DELETE', leave)).is, '404 CONFIG_NOT_FOUND')
  t.equal((await call(as('nobody'), 'DELETE', force)).is, '404 CONFIG_NOT_FOUND')
  t.equal(unsubscribed(), 1)
})

await t.test('a DELETE without unsubscribe=true does not call Meta', async (t) => {
  for (const query of ['', '?unsubscribe=false', '?force=true', '?unsubscribe=false&force=true']) {
    const { who, waba } = await tenant()
    t.equal((await call(who, 'DELETE', `${config}${query}`)).is, '204', query)
    t.equal(waba.subscriptions.size, 1)
    await isGone(t, who)
  }
  const { who } = await tenant()
  for (const query of [
    'unsubscribe', 'unsubscribe=1', 'unsubscribe=yes', 'unsubscribe=TRUE', 'unsubscribe=true&force=maybe',
    'unsubscribe=true&unsubscribe=true', 'unsubscribed=true'
  ]) {
    t.equal((await call(who, 'DELETE', `${config}?${query}`)).is, '400 VALIDATION_FAILED', query)
  }
  await isGone(t, who, false)
  t.strictSame(meta.requests, [])
})

await t.test('a tenant with its own app unsubscribes that app, not the app of the platform', async (t) => {
  const own = meta.state.addApp()
  const { who, waba } = await tenant(
    { fb_app_id: own.app_id, fb_app_secret: own.app_secret, access_token: issue(own.app_id) },
    newWaba([platform.id, own.app_id])
  )
  t.equal((await call(who, 'DELETE', leave)).is, '204')
  t.strictSame([...waba.subscriptions.keys()], [platform.id])
})

await t.test('a tenant without a token or without an account is deleted without a call to Meta', async (t) => {
  for (const fields of [{ access_token: null }, { waba_id: null }, { waba_id: null, access_token: null }]) {
    const { id, who, waba } = await tenant(fields)
    t.equal((await call(who, 'DELETE', leave)).is, '204')
    await isGone(t, who)
    t.notMatch(log(), new RegExp(`"tenant_id":"${id}"[^\\n]*our app stays`))
    t.equal(waba.subscriptions.size, 1)
  }
  t.strictSame(meta.requests, [])
})

await t.test('an account with numbers of two tenants is unsubscribed when the last one leaves', async (t) => {
  const { id, who, waba } = await tenant()
  const other = await tenant({}, waba)
  const before = (await rows()).filter(({ tenant_id: id }) => id === other.id)
  // The unreadable token shows that neither the secrets nor Meta are needed.
  await sql(
    'update tenant_configs set access_token = $1 where tenant_id <> $2 and waba_id = $3',
    ['v1.none.AAAA', other.id, waba.id]
  )
  t.equal((await call(who, 'DELETE', leave)).is, '204')
  await isGone(t, who)
  t.strictSame([waba.subscriptions.size, unsubscribed()], [1, 0])
  t.same((await rows()).filter(({ tenant_id: id }) => id === other.id), before)
  const stays = (id: string) =>
    log().split(`"tenant_id":"${id}","waba_id":"${waba.id}","msg":"our app stays on the account`).length - 1
  t.equal(stays(id), 1)
  await call(other.who, 'POST', `${config}/deactivate`)
  t.equal((await call(other.who, 'DELETE', leave)).is, '204', 'the last one takes it off')
  t.strictSame([waba.subscriptions.size, stays(other.id)], [0, 0])
  t.match(log(), /"level":30[^\n]*our app stays on the account of a tenant who left/)
})

await t.test('a tenant without a number does not affect the subscription of the account', async (t) => {
  const { who, waba } = await tenant()
  const squatter = await tenant(
    { phone_number_id: null, access_token: meta.state.issueToken({ app_id: platform.id, waba_ids: ['1'] }) },
    waba
  )
  t.equal((await call(squatter.who, 'DELETE', leave)).is, '204')
  t.strictSame([waba.subscriptions.size, unsubscribed()], [1, 0], 'and leaves the others alone')
  await tenant({ phone_number_id: null }, waba)
  t.equal((await call(who, 'DELETE', leave)).is, '204')
  t.equal(waba.subscriptions.size, 0)
})

await t.test('a refusal by Meta deletes nothing, unless force=true', async (t) => {
  const cases: Array<[Fault, RegExp]> = [
    [{ reply: tokenRefused(463, 401) }, /has expired/],
    [{ reply: tokenRefused(undefined, 401) }, /nothing was deleted.*force=true/],
    [{ reply: new GraphError(400, 100, 'Unsupported delete request', { error_subcode: 33 }) }, /force=true/],
    [{ reply: new GraphError(403, 200, 'Permissions error') }, /permission/],
    [{ reply: new GraphError(403, 131031, 'locked') }, /locked/]
  ]
  for (const [fault, detail] of cases) {
    const { id, who, waba } = await tenant()
    const before = await rows()
    meta.fail('unsubscribe', fault)
    const { is, body } = await call(who, 'DELETE', leave)
    t.equal(is, '502 META_UNSUBSCRIBE_REFUSED')
    t.match(body['detail'], detail)
    t.notMatch(JSON.stringify(body), /Unsupported|Permissions error|Session/)
    t.same(await rows(), before)
    meta.fail('unsubscribe', fault)
    t.equal((await call(who, 'DELETE', force)).is, '204')
    await isGone(t, who)
    t.equal(waba.subscriptions.size, 1)
    t.match(log(), new RegExp(`"level":40[^\\n]*META_UNSUBSCRIBE_REFUSED[^\\n]*"tenant_id":"${id}"`))
  }
})

await t.test('a failed call to Meta, an unreadable secret or a missing app deletes nothing', async (t) => {
  const { who } = await tenant({ verify_token: 'any' })
  const before = await rows()
  for (const [fault, expected] of [
    [faults.dropBefore, '503 META_UNAVAILABLE'],
    [{ reply: temporarilyDown() }, '503 META_UNAVAILABLE'],
    [
      { reply: new GraphError(400, 100, 'Invalid appsecret_proof provided in the API argument') },
      '502 META_APP_REJECTED'
    ],
    [{ reply: { status: 200, body: '{"success":false}' } }, '502 META_UNEXPECTED_REPLY'],
    [{ latency_ms: 60_000 }, '504 META_TIMEOUT']
  ] as Array<[Fault, string]>) {
    meta.fail('unsubscribe', fault)
    t.equal((await call(who, 'DELETE', leave)).is, expected)
  }
  t.same(await rows(), before)
  meta.fail('unsubscribe', faults.dropBefore)
  t.equal((await call(who, 'DELETE', force)).is, '204')
  await isGone(t, who)

  for (const column of ['access_token', 'fb_app_secret']) {
    const { id, who } = await tenant({ verify_token: 'any' })
    await sql(`update tenant_configs set fb_app_id = '1', ${column} = verify_token where tenant_id = $1`, [id])
    t.equal((await call(who, 'DELETE', leave)).is, '500 SECRET_UNREADABLE', column)
    t.equal((await sql('select from tenant_configs where tenant_id = $1', [id])).length, 1)
    t.equal((await call(who, 'DELETE', force)).is, '204')
    await isGone(t, who)
  }

  const bare = await client(t, { GRAPH_API_BASE_URL: meta.url })
  await bare.call(bare.as('acme'), 'POST', config, { waba_id: '1', access_token: 'x' })
  t.equal((await bare.call(bare.as('acme'), 'DELETE', leave)).is, '503 META_APP_NOT_CONFIGURED')
  t.equal((await bare.rows()).length, 1)
  t.equal((await bare.call(bare.as('acme'), 'DELETE', force)).is, '204')
  t.same(await bare.rows(), [])
})

await t.test('the second of two concurrent calls is a 404', async (t) => {
  for (let i = 0; i < 10; i++) {
    const { who, waba } = await tenant()
    const answers = await Promise.all([call(who, 'DELETE', leave), call(who, 'DELETE', leave)])
    t.strictSame(answers.map(({ is }) => is).sort(), ['204', '404 CONFIG_NOT_FOUND'])
    t.equal(waba.subscriptions.size, 0)
  }
  // Meta refuses the slower call, since the faster one has already unsubscribed the app.
  const { who } = await tenant()
  meta.requests.length = 0
  meta.fail('unsubscribe', { latency_ms: 600, reply: tokenRefused(458, 401) })
  const slower = call(who, 'DELETE', leave)
  await until(() => unsubscribed() === 1)
  t.equal((await call(who, 'DELETE', leave)).is, '204')
  t.equal((await slower).is, '404 CONFIG_NOT_FOUND')
})

await t.test('two concurrent calls of one tenant do not unsubscribe a shared account', async (t) => {
  for (let i = 0; i < 5; i++) {
    const { who, waba } = await tenant()
    await tenant({}, waba)
    const other = await connect(t, databaseUrl)
    await other.query('begin; select from tenant_configs for update')
    const calls = [call(who, 'DELETE', leave), call(who, 'DELETE', leave)]
    await untilWaiting(databaseUrl, 2)
    await other.query('rollback')
    t.strictSame((await Promise.all(calls)).map(({ is }) => is).sort(), ['204', '404 CONFIG_NOT_FOUND'])
    t.strictSame([waba.subscriptions.size, unsubscribed()], [1, 0])
  }
})

await t.test('the second of the last two tenants that leave concurrently unsubscribes the account', async (t) => {
  for (let i = 0; i < 5; i++) {
    const first = await tenant()
    const second = await tenant({}, first.waba)
    const other = await connect(t, databaseUrl)
    await other.query('begin; select from tenant_configs for update')
    const calls = [call(first.who, 'DELETE', leave), call(second.who, 'DELETE', leave)]
    await untilWaiting(databaseUrl, 2)
    await other.query('rollback')
    t.strictSame((await Promise.all(calls)).map(({ is }) => is), ['204', '204'])
    t.equal(first.waba.subscriptions.size, 0)
  }
})

await t.test('a change of the account during the unsubscription unsubscribes both accounts', async (t) => {
  const { who, waba } = await tenant()
  const moved = newWaba()
  meta.fail('unsubscribe', { latency_ms: 600 })
  const leaving = call(who, 'DELETE', leave)
  await until(() => unsubscribed() === 1)
  t.equal((await call(who, 'PUT', config, { waba_id: moved.id })).is, '200')
  t.equal((await leaving).is, '204')
  await isGone(t, who)
  t.strictSame([waba.subscriptions.size, moved.subscriptions.size], [0, 0], 'both accounts')
})

await t.test('an account that another tenant joins during the unsubscription is subscribed again', async (t) => {
  const meets = async (fault: Fault = {}, query = leave) => {
    const { id, who, waba } = await tenant()
    meta.requests.length = 0
    meta.fail('unsubscribe', { latency_ms: 600, ...fault })
    const leaving = call(who, 'DELETE', query)
    await until(() => unsubscribed() === 1)
    const neighbour = await tenant({}, waba)
    return { id, who, waba, leaving, neighbour }
  }
  const { id, who, waba, leaving, neighbour } = await meets()
  t.equal((await leaving).is, '204')
  await isGone(t, who)
  await isGone(t, neighbour.who, false)
  t.strictSame([...waba.subscriptions], [[platform.id, {}]])
  t.match(
    log(),
    new RegExp(`"level":40[^\\n]*"tenant_id":"${id}","waba_id":"${waba.id}"[^\\n]*subscribed our app again`)
  )
  t.same(meta.requests.map(({ route }) => route), ['unsubscribe', 'subscriptions', 'subscribe'])

  // An onboarding may have subscribed it already; a second subscription would clear its callback.
  const onboarded = await meets()
  const override = { override: { url: 'https://a.example', verify_token: 'x' } }
  onboarded.waba.subscriptions.set(platform.id, override)
  t.equal((await onboarded.leaving).is, '204')
  t.strictSame([...onboarded.waba.subscriptions], [[platform.id, override]])
  t.notMatch(log(), new RegExp(`"tenant_id":"${onboarded.id}"[^\\n]*subscribed our app again`))

  const failing = await meets()
  meta.fail('subscribe', faults.dropBefore)
  t.equal((await failing.leaving).is, '204', 'what the leaver can do nothing about')
  t.equal(failing.waba.subscriptions.size, 0)
  t.match(
    log(),
    new RegExp(
      `"level":40[^\\n]*META_UNAVAILABLE[^\\n]*"tenant_id":"${failing.id}","waba_id":"${failing.waba.id}"[^\\n]*could not subscribe our app again`
    )
  )

  const forced = await meets({ drop: true, processed: true }, force)
  t.equal((await forced.leaving).is, '204')
  t.strictSame([...forced.waba.subscriptions], [[platform.id, {}]], 'also where nobody knows whether it was taken off')

  const passing = await meets()
  meta.fail('subscribe', { latency_ms: 600 })
  await until(() => meta.requests.some(({ route }) => route === 'subscribe'))
  t.equal((await call(passing.neighbour.who, 'DELETE', config)).is, '204')
  t.equal((await passing.leaving).is, '204')
  t.strictSame([passing.waba.subscriptions.size, unsubscribed()], [0, 2], 'it goes again with the neighbour')
})

await t.test('a token that is replaced during the unsubscription unsubscribes once more', async (t) => {
  const { who, waba } = await tenant()
  const fresh = issue()
  meta.requests.length = 0
  meta.fail('unsubscribe', { latency_ms: 600 })
  const leaving = call(who, 'DELETE', leave)
  await until(() => unsubscribed() === 1)
  t.equal((await call(who, 'PUT', config, { access_token: fresh })).is, '200')
  waba.subscriptions.set(platform.id, {})
  t.equal((await leaving).is, '204')
  await isGone(t, who)
  t.equal(waba.subscriptions.size, 0)
  t.equal(meta.requests.at(-1)?.headers.authorization, `Bearer ${fresh}`)
  t.equal(unsubscribed(), 2)
})

await t.test('a configuration that changes at each of 5 attempts is answered 503 CONFIG_CHANGING', async (t) => {
  const { id, who, waba } = await tenant()
  // As if another number joined and left the account between any two attempts.
  await sql(`create function keep() returns trigger language plpgsql as $$ begin return null; end $$;
    create trigger keep before delete on tenant_configs for each row when (old.tenant_id = '${id}') execute function keep()`)
  const { is, body, headers } = await call(who, 'DELETE', leave)
  t.strictSame([is, headers['retry-after']], ['503 CONFIG_CHANGING', '5'])
  t.match(body['detail'], /nothing was deleted/)
  t.equal(unsubscribed(), 5)
  await isGone(t, who, false)
  await sql('drop function keep() cascade')
  waba.subscriptions.set(platform.id, {})
  t.equal((await call(who, 'DELETE', leave)).is, '204')
  await isGone(t, who)
})

await t.test('a service that closes before the call to Meta deletes nothing, even with force=true', async (t) => {
  const { id, who, waba } = await tenant()
  const closing = await client(t, { ...env, DATABASE_URL: databaseUrl })
  const holder = await connect(t, databaseUrl)
  await holder.query('begin')
  await holder.query('select from tenant_configs where tenant_id = $1 for update', [id])
  const answer = closing.call(closing.as(id), 'DELETE', force)
  await untilWaiting(databaseUrl, 1)
  const closed = closing.app.close()
  await until(() => closing.app.closing.aborted)
  await holder.query('commit')
  t.equal((await answer).is, '503 SERVICE_CLOSING')
  await closed
  t.strictSame([waba.subscriptions.size, unsubscribed()], [1, 0])
  await isGone(t, who, false)
})

await t.test('an offboarding invalidates the cached configuration of the loader', async (t) => {
  const { id, who } = await tenant()
  t.equal((await app.configLoader.forTenant(id)).hasTenantConfig(), true)
  t.equal((await call(who, 'DELETE', leave)).is, '204')
  t.equal((await app.configLoader.forTenant(id)).hasTenantConfig(), false)
})
