import t from '../run/tap.js'
import { startWithMetaFault, withoutTable } from '../fixtures/fault-injection.js'
import { GraphError, temporarilyDown, throttled } from '../graph/errors.js'
import { until as untilTrue } from '../helper.js'
import { config } from '../routes/client.js'
import { resumptionService } from './resumption-service.js'

const FIVE_MINUTES = 5 * 60_000

const service = await resumptionService(t)
const { app, meta, sql, request, deliver, stateOf, told, asked, until, suspended, checkAllDue, logged } = service
t.beforeEach(() => {
  meta.requests.length = 0
  meta.clearFaults()
})

const isOn = ({ is_active: isActive }: Record<string, unknown>) => isActive === true
const waitsOrEnds = ({ resume_at: at, wait }: Record<string, unknown>) => at !== null && Number(wait) > 0
const isEnded = ({ resume_at: at }: Record<string, unknown>) => at === null
/** Whether a failed check waits for its repetition: longer than a claim lasts. */
const waits = ({ wait }: Record<string, unknown>) => Number(wait) > 60_000
const assertNear = (t: Test, wait: unknown, expected: number) => {
  t.ok(Math.abs(Number(wait) - expected) < 20_000, `${wait} ms is about ${expected} ms`)
}
type Test = typeof t
const suspension = ['account.suspended', 'ok', 'suspended', 'ACCOUNT_OFFBOARDED']

await t.test('a suspended tenant is turned on after a live check that holds', async (t) => {
  for (const [event, banState] of [['ACCOUNT_RECONNECTED', null], ['DISABLED_UPDATE', 'REINSTATE']] as const) {
    const { id, waba } = await suspended()
    t.equal((await app.configLoader.forTenant(id)).hasTenantConfig(), false)
    await deliver(event, waba.id, banState)
    await until(id, isOn)
    t.match(await stateOf(id), { status: 'ok', turned_off: false, resume_at: null })
    t.strictSame(told(id), [suspension, ['account.resumed', 'suspended', 'ok', event]])
    t.strictSame(asked(), ['debug_token', 'phone_numbers'])
    t.match(await app.tokenWatch.healthOf(id), { token_status: 'ok', account_status: 'ok', account_reason: null })
    t.match(
      await sql('select phone_number_id, number_status from phone_numbers where tenant_id = $1', [id]),
      [{ phone_number_id: waba.phones[0]?.id }]
    )
    t.equal((await app.configLoader.forTenant(id)).hasTenantConfig(), true, 'the cache is invalidated')
  }
})

await t.test('a resumption that is due by mistake is not checked', async (t) => {
  const { id } = await suspended()
  await sql("update account_states set resume_at = now(), status = 'lost' where tenant_id = $1", [id])
  await checkAllDue()
  t.strictSame(asked(), [])
  t.equal(waitsOrEnds(await stateOf(id)), true, 'its claim lasts')
  t.match(await app.tenantConfigs.find(id), { is_active: false })
})

await t.test('a tenant without a number, or with an app of its own, is checked too', async (t) => {
  const bare = await suspended({}, { hasNumber: false })
  await deliver('ACCOUNT_RECONNECTED', bare.waba.id)
  await until(bare.id, isOn)
  t.same(await sql('select * from phone_numbers where tenant_id = $1', [bare.id]), [])

  const own = meta.state.addApp({ app_id: '42' })
  const pair = { fb_app_id: own.app_id, fb_app_secret: own.app_secret }
  const tenant = await suspended(pair, { appId: own.app_id })
  await deliver('ACCOUNT_RECONNECTED', tenant.waba.id)
  await until(tenant.id, isOn)
})

await t.test('a tenant that Meta does not confirm stays suspended', async (t) => {
  const revoked = await suspended()
  Object.assign(meta.state.tokens.get(revoked.token) ?? {}, { revoked: 460 })
  const moved = await suspended()
  moved.waba.phones = []
  const unshared = await suspended()
  meta.state.tokens.set(unshared.token, Object.assign({}, meta.state.tokens.get(unshared.token), { waba_ids: [] }))
  const rejected = await suspended({ fb_app_id: '670843887433847', fb_app_secret: 'of another time' })
  const tokenless = await suspended()
  await request(tokenless.id, 'PUT', config, { access_token: null })
  const homeless = await suspended()
  await sql('update tenant_configs set waba_id = null where tenant_id = $1', [homeless.id])
  await sql('update account_states set resume_at = now() where tenant_id = $1', [homeless.id])
  const refused = { revoked, moved, unshared, rejected, tokenless }
  for (const [name, { id, waba }] of Object.entries({ ...refused })) {
    await deliver('ACCOUNT_RECONNECTED', waba.id)
    await until(id, isEnded)
    t.match(await stateOf(id), { is_active: false, status: 'suspended', turned_off: true }, name)
    t.strictSame(told(id), [suspension], name)
  }
  await until(homeless.id, isEnded)
  t.match(await stateOf(homeless.id), { is_active: false, status: 'suspended' })
  t.equal(logged('a tenant stays suspended: Meta does not confirm'), 4)
  t.equal(logged('a tenant stays suspended: it has no account or no token'), 2)
  t.match(await app.tokenWatch.healthOf(revoked.id), { token_status: 'unverified', reason: null })

  // The next update has it checked again.
  Object.assign(meta.state.tokens.get(revoked.token) ?? {}, { revoked: undefined })
  await deliver('ACCOUNT_RECONNECTED', revoked.waba.id)
  await until(revoked.id, isOn)
})

await t.test('a check that meets an outage is repeated until it holds', async (t) => {
  const { id, waba } = await suspended()
  await deliver('ACCOUNT_OFFBOARDED', waba.id)
  for (const [route, reply] of [
    ['debug_token', temporarilyDown()],
    ['phone_numbers', temporarilyDown()],
    ['phone_numbers', new GraphError(400, 100, 'odd')],
    // The platform's app is not the tenant's to correct.
    ['debug_token', new GraphError(400, 190, 'The app token is invalid')]
  ] as const) {
    meta.fail(route, { reply })
    await deliver('ACCOUNT_RECONNECTED', waba.id)
    await until(id, waits)
    assertNear(t, (await stateOf(id))['wait'], FIVE_MINUTES)
    t.match(await app.tokenWatch.healthOf(id), { account_status: 'suspended', account_reason: 'ACCOUNT_OFFBOARDED' })
  }
  t.equal(logged('the check of a suspended tenant failed; it is tried again'), 4)
  meta.requests.length = 0
  await checkAllDue()
  t.strictSame(asked(), [], 'it is not due yet')
  await sql('update account_states set resume_at = now() where tenant_id = $1', [id])
  await checkAllDue()
  t.match(await stateOf(id), { is_active: true, status: 'ok' })
  t.strictSame(told(id).at(-1), ['account.resumed', 'suspended', 'ok', 'ACCOUNT_RECONNECTED'])
})

await t.test('a check that Meta limits is repeated when Meta allows calls again', async (t) => {
  const { id, waba } = await suspended()
  const usage = { [waba.id]: [{ type: 'whatsapp_business_management', estimated_time_to_regain_access: 20 }] }
  meta.fail('phone_numbers', {
    reply: throttled(80007), headers: { 'x-business-use-case-usage': JSON.stringify(usage) }
  })
  await deliver('ACCOUNT_RECONNECTED', waba.id)
  await until(id, waits)
  assertNear(t, (await stateOf(id))['wait'], 20 * 60_000)
})

await t.test('a person, or another update, decides over a check that is under way', async (t) => {
  const during: Array<[string, (id: string, waba: string) => Promise<void>, object]> = [
    ['turned off', async (id) => { await request(id, 'POST', `${config}/deactivate`) },
      { is_active: false, status: 'suspended', turned_off: false, resume_at: null }],
    ['turned on', async (id) => { await request(id, 'POST', `${config}/activate`) },
      { is_active: true, status: 'ok', turned_off: false, resume_at: null }],
    ['lost', async (_id, waba) => { await deliver('PARTNER_REMOVED', waba) },
      { is_active: false, status: 'lost', turned_off: false, resume_at: null }],
    ['suspended again', async (_id, waba) => { await deliver('ACCOUNT_OFFBOARDED', waba) },
      { is_active: false, status: 'suspended', turned_off: true, resume_at: null }]
  ]
  for (const [name, act, expected] of during) {
    const { id, waba } = await suspended()
    const { answer } = await startWithMetaFault(
      meta, 'phone_numbers', { latency_ms: 500 }, async () => { await deliver('ACCOUNT_RECONNECTED', waba.id) }
    )
    await answer
    await act(id, waba.id)
    // The loop of the service runs one check at a time: a later tenant is on after the check.
    const later = await suspended()
    await deliver('ACCOUNT_RECONNECTED', later.waba.id)
    await until(later.id, isOn)
    t.match(await stateOf(id), expected, name)
    t.notOk(told(id).some(([type]) => type === 'account.resumed'), name)
  }
})

await t.test('a lost tenant is not resumed, nor one that a person had turned off', async (t) => {
  const lost = await suspended()
  await deliver('PARTNER_REMOVED', lost.waba.id)
  const off = await suspended()
  await request(off.id, 'POST', `${config}/deactivate`)
  for (const { id, waba } of [lost, off]) {
    await deliver('ACCOUNT_RECONNECTED', waba.id)
    t.match(await stateOf(id), { is_active: false, turned_off: false, resume_at: null })
  }
  await checkAllDue()
  t.strictSame(asked(), [])
  t.match(await app.tokenWatch.healthOf(lost.id), { account_status: 'lost', account_reason: 'PARTNER_REMOVED' })
  t.match(await app.tokenWatch.healthOf(off.id), { account_status: 'ok' })
})

await t.test('an identity that changes during its check is checked itself', async (t) => {
  const { id, waba } = await suspended()
  const other = meta.state.issueToken({ app_id: '670843887433847', waba_ids: [waba.id] })
  const { answer } = await startWithMetaFault(
    meta, 'phone_numbers', { latency_ms: 500 }, async () => { await deliver('ACCOUNT_RECONNECTED', waba.id) }
  )
  await answer
  await request(id, 'PUT', config, { access_token: other })
  await until(id, isOn)
  t.strictSame(asked(), ['debug_token', 'phone_numbers', 'debug_token', 'phone_numbers'])
  t.match(await app.tokenWatch.healthOf(id), { token_status: 'ok' })
})

await t.test('concurrent loops check each of 30 due tenants once', async (t) => {
  const tenants = []
  for (let i = 0; i < 30; i++) tenants.push(await suspended())
  meta.fail('debug_token', { latency_ms: 20, times: Infinity })
  await sql('update account_states set resume_at = now() where tenant_id = any($1)', [tenants.map(({ id }) => id)])
  await Promise.all([checkAllDue(), checkAllDue(), checkAllDue()])
  for (const { id } of tenants) t.match(await stateOf(id), { is_active: true }, id)
  const inspected = meta.requests.flatMap(({ route, query }) => route === 'debug_token' ? [query['input_token']] : [])
  t.same(inspected.sort(), tenants.map(({ token }) => token).sort())
})

await t.test('a check that fails at the database keeps its claim, and is repeated after it', async (t) => {
  const { id, waba } = await suspended()
  await sql(`create function abort_update() returns trigger language plpgsql as $$ begin raise sqlstate '57014'; end $$;
    create trigger abort_update before update on tenant_configs for each row execute function abort_update()`)
  await deliver('ACCOUNT_RECONNECTED', waba.id)
  await untilTrue(() => logged('the resumption of suspended tenants failed; it is tried again') === 1)
  await sql('drop function abort_update cascade')
  t.match(await stateOf(id), { is_active: false, status: 'suspended', turned_off: true })
  t.ok(Number((await stateOf(id))['wait']) > 0, 'it is claimed')
  await checkAllDue()
  t.match(await stateOf(id), { is_active: false })

  await sql('update account_states set resume_at = now() where tenant_id = $1', [id])
  await withoutTable(sql, 'account_states', checkAllDue)
  t.equal(logged('the resumption of suspended tenants failed; it is tried again'), 2)
  await checkAllDue()
  t.match(await stateOf(id), { is_active: true })
})
