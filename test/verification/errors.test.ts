import t from '../run/tap.js'
import { BLOCK_MS, clock } from '../fixtures/clock.js'
import { GraphError, temporarilyDown, throttled } from '../graph/errors.js'
import { faults, type Fault } from '../graph/faults.js'
import { app as platform } from '../meta/wire.js'
import { client, config } from '../routes/client.js'
import { CALLS, detailOf, failedChecks, verificationService, verifyUrl } from './verification-service.js'

const { app, as, call, sql, meta, issue, tenant, stored, verified } = await verificationService(t)

await t.test('a transient failure at Meta is answered with its own code and stores nothing', async (t) => {
  const { id } = await tenant()
  const { advance } = clock(t)
  const before = await stored()
  const cases: Array<[Fault, string]> = [
    [faults.dropBefore, '503 META_UNAVAILABLE'],
    [faults.badGateway, '503 META_UNAVAILABLE'],
    [{ reply: temporarilyDown() }, '503 META_UNAVAILABLE'],
    [{ reply: throttled(80007) }, '503 META_RATE_LIMITED'],
    [
      { reply: new GraphError(400, 100, 'Invalid appsecret_proof provided in the API argument') },
      '502 META_APP_REJECTED'
    ],
    [{ reply: { status: 200, body: '[]' } }, '502 META_UNEXPECTED_REPLY'],
    [{ latency_ms: 60_000 }, '504 META_TIMEOUT']
  ]
  for (const route of CALLS) {
    for (const [fault, expected] of cases) {
      meta.fail(route, fault)
      t.equal((await call(as(id), 'POST', verifyUrl)).is, expected, `${route} ${JSON.stringify(fault).slice(0, 60)}`)
      if (expected.includes('RATE')) advance(BLOCK_MS)
    }
  }
  t.same(await stored(), before)
})

await t.test('a missing app or an unreadable secret has its own error code', async (t) => {
  const bare = await client(t, { GRAPH_API_BASE_URL: meta.url })
  await bare.call(bare.as('acme'), 'POST', config, { access_token: 'x' })
  t.equal((await bare.call(bare.as('acme'), 'POST', verifyUrl)).is, '503 META_APP_NOT_CONFIGURED')
  t.equal((await bare.call(bare.as('acme'), 'POST', verifyUrl, { waba_id: '1' })).is, '503 META_APP_NOT_CONFIGURED')
  const own = meta.state.addApp()
  t.strictSame(
    failedChecks(
      await bare.call(bare.as('acme'), 'POST', verifyUrl, {
        fb_app_id: own.app_id,
        fb_app_secret: own.app_secret,
        access_token: issue({ app_id: own.app_id })
      })
    ),
    ['assets', 'subscription']
  )

  const { id, who, access_token } = await tenant({ verify_token: 'any' })
  for (const column of ['access_token', 'fb_app_secret']) {
    await sql(
      `update tenant_configs set fb_app_id = '${platform.id}', ${column} = verify_token where tenant_id = $1`,
      [id]
    )
    t.equal((await call(who, 'POST', verifyUrl)).is, '500 SECRET_UNREADABLE', column)
    t.equal((await call(who, 'POST', verifyUrl, { waba_id: '1' })).is, '500 SECRET_UNREADABLE', column)
    t.match(
      await verified(
        t,
        who,
        ['assets', 'subscription', 'callback'],
        { access_token, fb_app_id: null, fb_app_secret: null, waba_id: '1' }
      ),
      { body: { config: { [column]: '****' } } }
    )
    await call(who, 'PUT', config, { access_token, fb_app_secret: null })
  }
  await sql('update tenant_configs set refresh_token = verify_token where tenant_id = $1', [id])
  t.match(
    (await verified(t, who, [])).body['config'],
    { refresh_token: '****', last_verified_at: String },
    'no check needs the refresh_token'
  )
})

await t.test('a rejected app of the tenant fails the check of token instead of the request', async (t) => {
  const own = meta.state.addApp()
  for (const pair of [
    { fb_app_id: own.app_id, fb_app_secret: 'wrong' },
    { fb_app_id: '404', fb_app_secret: own.app_secret }
  ]) {
    const { id, who } = await tenant({ ...pair, access_token: issue({ app_id: own.app_id }) })
    for (const body of [undefined, { callback_url: null }, { ...pair, waba_id: '1' }]) {
      const answer = await verified(t, who, ['token', 'assets', 'subscription', 'callback'], body)
      t.match(detailOf(answer, 'token'), /Check fb_app_id and fb_app_secret/)
    }
    t.match(await app.tokenWatch.healthOf(id), { token_status: 'unverified', reason: null })
  }
  const { who } = await tenant({
    fb_app_id: own.app_id,
    fb_app_secret: own.app_secret,
    access_token: issue({ app_id: own.app_id })
  })
  meta.fail('debug_token', { reply: new GraphError(400, 3, 'Application does not have the capability') })
  t.match(
    detailOf(await verified(t, who, ['token', 'assets', 'subscription', 'callback']), 'token'),
    /what the app may do/
  )
  for (const body of [undefined, { fb_app_id: own.app_id, fb_app_secret: null }]) {
    const onPlatformApp = await tenant(body)
    meta.fail('debug_token', { reply: new GraphError(400, 101, 'Error validating application') })
    t.equal((await call(onPlatformApp.who, 'POST', verifyUrl)).is, '502 META_APP_REJECTED', 'the app of the platform')
  }
})
