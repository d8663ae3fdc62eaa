import t from '../run/tap.js'
import { GraphError, temporarilyDown, tokenRefused } from '../graph/errors.js'
import { faults, type Fault } from '../graph/faults.js'
import { connect, until, untilWaiting } from '../helper.js'
import { app as platform } from '../meta/wire.js'
import { client, config } from '../routes/client.js'
import { forceOffboardUrl, offboardingService, offboardUrl } from './offboarding-service.js'

const {
  call, sql, log, rows, databaseUrl, env, meta, tenant, unsubscribeCalls, assertDeleted
} = await offboardingService(t)

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
    const { is, body } = await call(who, 'DELETE', offboardUrl)
    t.equal(is, '502 META_UNSUBSCRIBE_REFUSED')
    t.match(body['detail'], detail)
    t.notMatch(JSON.stringify(body), /Unsupported|Permissions error|Session/)
    t.same(await rows(), before)
    meta.fail('unsubscribe', fault)
    t.equal((await call(who, 'DELETE', forceOffboardUrl)).is, '204')
    await assertDeleted(t, who)
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
    t.equal((await call(who, 'DELETE', offboardUrl)).is, expected)
  }
  t.same(await rows(), before)
  meta.fail('unsubscribe', faults.dropBefore)
  t.equal((await call(who, 'DELETE', forceOffboardUrl)).is, '204')
  await assertDeleted(t, who)

  for (const column of ['access_token', 'fb_app_secret']) {
    const { id, who } = await tenant({ verify_token: 'any' })
    await sql(`update tenant_configs set fb_app_id = '1', ${column} = verify_token where tenant_id = $1`, [id])
    t.equal((await call(who, 'DELETE', offboardUrl)).is, '500 SECRET_UNREADABLE', column)
    t.equal((await sql('select from tenant_configs where tenant_id = $1', [id])).length, 1)
    t.equal((await call(who, 'DELETE', forceOffboardUrl)).is, '204')
    await assertDeleted(t, who)
  }

  const bare = await client(t, { GRAPH_API_BASE_URL: meta.url })
  await bare.call(bare.as('acme'), 'POST', config, { waba_id: '1', access_token: 'x' })
  t.equal((await bare.call(bare.as('acme'), 'DELETE', offboardUrl)).is, '503 META_APP_NOT_CONFIGURED')
  t.equal((await bare.rows()).length, 1)
  t.equal((await bare.call(bare.as('acme'), 'DELETE', forceOffboardUrl)).is, '204')
  t.same(await bare.rows(), [])
})

await t.test('a configuration that changes at each of 5 attempts is answered 503 CONFIG_CHANGING', async (t) => {
  const { id, who, waba } = await tenant()
  // As if another number joined and left the account between any two attempts.
  await sql(`create function keep() returns trigger language plpgsql as $$ begin return null; end $$;
    create trigger keep before delete on tenant_configs
      for each row when (old.tenant_id = '${id}') execute function keep()`)
  const { is, body, headers } = await call(who, 'DELETE', offboardUrl)
  t.strictSame([is, headers['retry-after']], ['503 CONFIG_CHANGING', '5'])
  t.match(body['detail'], /nothing was deleted/)
  t.equal(unsubscribeCalls(), 5)
  await assertDeleted(t, who, false)
  await sql('drop function keep() cascade')
  waba.subscriptions.set(platform.id, {})
  t.equal((await call(who, 'DELETE', offboardUrl)).is, '204')
  await assertDeleted(t, who)
})

await t.test('a service that closes before the call to Meta deletes nothing, even with force=true', async (t) => {
  const { id, who, waba } = await tenant()
  const closing = await client(t, { ...env, DATABASE_URL: databaseUrl })
  const other = await connect(t, databaseUrl)
  await other.query('begin')
  await other.query('select from tenant_configs where tenant_id = $1 for update', [id])
  const answer = closing.call(closing.as(id), 'DELETE', forceOffboardUrl)
  await untilWaiting(databaseUrl, 1)
  const closed = closing.app.close()
  await until(() => closing.app.closing.aborted)
  await other.query('commit')
  t.equal((await answer).is, '503 SERVICE_CLOSING')
  await closed
  t.strictSame([waba.subscriptions.size, unsubscribeCalls()], [1, 0])
  await assertDeleted(t, who, false)
})
