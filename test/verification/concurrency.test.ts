import t from '../run/tap.js'
import { accountUpdate, accountUpdateUrl, signedHeaders } from '../account-updates/deliveries.js'
import { startWithMetaFault } from '../fixtures/fault-injection.js'
import { faults } from '../graph/faults.js'
import { app as platform } from '../meta/wire.js'
import { config } from '../routes/client.js'
import { CALLS, verificationService, verifyUrl } from './verification-service.js'

const { app, as, call, sql, log, meta, issue, asked, tenant, verified } = await verificationService(t)

await t.test('a concurrent write of the configuration is never overwritten', async (t) => {
  const put = async (body: object, who: Record<string, string>) => {
    t.equal((await call(who, 'PUT', config, body)).is, '200')
  }
  for (const [name, change] of [
    ['another token', async ({ who }) => await put({ access_token: issue() }, who)],
    ['no token', async ({ who }) => await put({ access_token: null }, who)],
    ['another account', async ({ who }) => await put({ waba_id: '1' }, who)],
    ['another number', async ({ who }) => await put({ phone_number_id: 'x' }, who)],
    ['no number', async ({ who }) => await put({ phone_number_id: null }, who)]
  ] as Array<[string, (changed: Awaited<ReturnType<typeof tenant>>) => Promise<void>]>) {
    const changed = await tenant()
    const { answer } = await startWithMetaFault(
      meta,
      'phone',
      { latency_ms: 600 },
      async () => await verified(t, changed.who, [])
    )
    await change(changed)
    const { body: written } = await call(changed.who, 'GET', config)
    const { body } = await answer
    const { body: after } = await call(changed.who, 'GET', config)
    t.strictSame(body['config'], after, name)
    t.strictSame(
      { ...after, token_expires_at: null, updated_at: null },
      { ...written, token_expires_at: null, updated_at: null },
      name
    )
    t.equal(after['last_verified_at'], null)
    t.same(await sql('select * from phone_numbers where tenant_id = $1', [changed.id]), [], 'nor is the number')
    if (name.includes('token')) t.strictSame(after, written, 'the expiry of the verified token is not stored')
  }

  const { who } = await tenant()
  const { answer } = await startWithMetaFault(
    meta,
    'phone',
    { latency_ms: 600 },
    async () => await call(who, 'POST', verifyUrl)
  )
  t.equal((await call(who, 'DELETE', config)).is, '204')
  t.equal((await answer).is, '404 CONFIG_NOT_FOUND')
})

await t.test('an expiry that is stored during the verification stays', async (t) => {
  const { who } = await tenant({ token_expires_at: '2031-01-01T00:00:00.000000Z' })
  for (const [expires_at, stored] of [
    [undefined, '2032-01-01T00:00:00.000000Z'], [4102444800, '2033-01-01T00:00:00.000000Z']
  ] as const) {
    meta.fail('debug_token', { patch: { data: { expires_at } } })
    const { answer } = await startWithMetaFault(
      meta,
      'phone',
      { latency_ms: 600 },
      async () => await verified(t, who, [])
    )
    const { body: { last_verified_at: before } } = await call(who, 'PUT', config, { token_expires_at: stored })
    const { body } = await answer
    t.match(body['config'], { token_expires_at: stored, last_verified_at: String }, String(expires_at))
    t.not(Object(body['config'])['last_verified_at'], before, 'the identity is verified')
  }
})

await t.test('a finding or a claim made during the verification stays', async (t) => {
  const duringVerification = async (work: (tenantId: string, wabaId: string) => Promise<unknown>) => {
    const { id, who, waba } = await tenant()
    const { answer } = await startWithMetaFault(
      meta,
      'phone',
      { latency_ms: 600 },
      async () => await verified(t, who, [])
    )
    await work(id, waba.id)
    return { id, config: (await answer).body['config'] }
  }
  const lost = await duringVerification(async (_id, waba) => {
    const body = JSON.stringify(accountUpdate('PARTNER_REMOVED', { waba, time: null }))
    t.equal((await call({}, 'POST', accountUpdateUrl, body, signedHeaders(body, platform.secret))).is, '200')
  })
  t.match(await app.tokenWatch.healthOf(lost.id), { token_status: 'revoked', reason: 'PARTNER_REMOVED' })
  t.match(lost.config, { last_verified_at: null, is_active: false })

  // The scheduler that claimed the token will record its own finding.
  const claimed = await duringVerification(async (id) => await sql(
    "update token_watch set next_check_at = now() + interval '2 hours' where tenant_id = $1",
    [id]
  ))
  t.match(await app.tokenWatch.healthOf(claimed.id), { token_status: 'unverified', checked_at: null })
  t.match(claimed.config, { last_verified_at: String })
})

await t.test('concurrent verifications of one tenant share the calls to Meta', async (t) => {
  const one = await tenant()
  const other = await tenant()
  meta.requests.length = 0
  meta.fail('debug_token', { latency_ms: 600, times: 2 })
  const all = Array.from({ length: 50 }, () => verified(t, one.who, []))
  const ofOther = verified(t, other.who, [])
  for (const { body } of await Promise.all(all)) {
    t.match(body, {
      ok: true,
      config: { tenant_id: one.id, last_verified_at: String }
    })
  }
  t.match((await ofOther).body, { config: { tenant_id: other.id } })
  t.strictSame(asked().sort(), [...CALLS, ...CALLS].sort())
  await verified(t, one.who, [])
  t.equal(asked().length, 12, 'a later verification calls Meta again')

  // A verification after a write must not join one of the former credentials.
  const { answer: before } = await startWithMetaFault(
    meta,
    'debug_token',
    { latency_ms: 600 },
    async () => await verified(t, one.who, [])
  )
  t.equal((await call(one.who, 'PUT', config, { access_token: issue({ expires_in: -1 }) })).is, '200')
  await verified(t, one.who, ['token', 'assets', 'subscription', 'callback'])
  await before

  meta.requests.length = 0
  meta.fail('debug_token', { latency_ms: 600, ...faults.badGateway })
  t.strictSame(
    (await Promise.all([call(other.who, 'POST', verifyUrl), call(other.who, 'POST', verifyUrl)])).map(({ is }) => is),
    ['503 META_UNAVAILABLE', '503 META_UNAVAILABLE']
  )
  t.strictSame(asked(), ['debug_token'])
  await verified(t, other.who, [])
})

await t.test('a verification of one tenant changes nothing of another on the same account', async (t) => {
  const { id, waba, phone_number_id, who } = await tenant()
  // A tenant that claims the account of another, without a token for it.
  const claimant = as('claimant')
  await call(claimant, 'POST', config, { waba_id: waba.id, access_token: issue({ waba_ids: ['1'] }) })
  const { body: before } = await call(who, 'GET', config)
  await verified(t, claimant, ['assets', 'subscription', 'callback'])
  await verified(t, claimant, ['assets', 'subscription', 'callback'], { phone_number_id })
  t.strictSame((await call(who, 'GET', config)).body, before)
  t.match(await app.tokenWatch.healthOf(id), { token_status: 'unverified' })
  t.notMatch(log(), phone_number_id)
})
