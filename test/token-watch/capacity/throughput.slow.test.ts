import t from '../../run/tap.js'
import { buildTestApp, until } from '../../helper.js'
import { app as platform } from '../../meta/wire.js'
import { watch } from '../watch.js'

t.setTimeout(300_000)

const TOKENS = 300
/** The time of a call to Meta. */
const CALL_MS = 300
/** A million tokens in a day are twelve a second. */
const CHECKS_PER_SECOND = 20

const { meta, issue, startService, reset } = await watch(t)
t.beforeEach(reset)

/** Starts a service with due tokens, each with a number, and delays all calls to Meta. */
async function startWithTokens (t: Parameters<typeof startService>[0]) {
  const service = await startService(t)
  await Promise.all(Array.from({ length: TOKENS }, async (_, i) => {
    const waba = meta.state.addWaba({ app_ids: [platform.id] })
    const ids = { waba_id: waba.id, phone_number_id: String(waba.phones[0]?.id) }
    await service.store(`tenant ${i}`, issue(), ids)
  }))
  for (const route of ['debug_token', 'phone_numbers'] as const) {
    meta.fail(route, { latency_ms: CALL_MS, times: Infinity })
  }
  meta.requests.length = 0
  return service
}

/** The tokens of all debug_token calls. */
const inspected = () => meta.requests.filter(({ route }) => route === 'debug_token')
  .map(({ query }) => String(query['input_token']))

await t.test('one process makes at least 20 checks a second when a call takes 300 ms', async (t) => {
  const { poll, sql } = await startWithTokens(t)
  const began = performance.now()
  await poll()
  const seconds = (performance.now() - began) / 1000
  t.equal(inspected().length, TOKENS)
  t.equal(meta.requests.length, 2 * TOKENS)
  t.same(await sql("select from token_watch where status <> 'ok' or next_check_at < now()"), [])
  t.ok(TOKENS / seconds >= CHECKS_PER_SECOND, `${(TOKENS / seconds).toFixed(1)} checks a second`)
  t.comment(`${(TOKENS / seconds).toFixed(1)} checks a second`)
})

await t.test('one call that hangs does not hold up the other checks', async (t) => {
  const { env, sql } = await startWithTokens(t)
  meta.clearFaults()
  meta.fail('debug_token', { latency_ms: 120_000 })
  // The end of the test closes this instance, which does not wait for the call.
  await buildTestApp(t, { ...env, GRAPH_TIMEOUT_MS: 120_000 })
  await until(async () => (await sql("select from token_watch where status = 'ok'")).length === TOKENS - 1, 60_000)
  t.equal(inspected().length, TOKENS)
})

await t.test('two processes check no token twice in a period', async (t) => {
  const { env, sql } = await startWithTokens(t)
  const instances = await Promise.all([buildTestApp(t, env), buildTestApp(t, env)])
  await until(async () => (await sql("select from token_watch where status = 'ok'")).length === TOKENS, 60_000)
  t.same(inspected().length, TOKENS)
  t.equal(new Set(inspected()).size, TOKENS)
  for (const { log } of instances) {
    t.ok(log().split('a call of the Graph API succeeded').length > TOKENS / 5, 'both instances check tokens')
  }
})
