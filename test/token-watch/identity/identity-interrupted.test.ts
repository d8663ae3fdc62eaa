import t from '../../run/tap.js'
import { BLOCK_MS, clock } from '../../fixtures/clock.js'
import { startWithMetaFault } from '../../fixtures/fault-injection.js'
import { FIVE_MINUTES, assertNear } from '../watch.js'
import { watchIdentities } from './identity-watch.js'
import { GraphError, temporarilyDown, throttled } from '../../graph/errors.js'
import { buildTestApp, makeUnreachable, until } from '../../helper.js'

const { meta, account, asked, startService, reset } = await watchIdentities(t)
t.beforeEach(reset)

await t.test('a failed identity check is retried, and the finding of the token is kept', async (t) => {
  const { post, poll, pollAll, verified, healthOf } = await startService(t)
  const { advance } = clock(t)
  const { ids, token } = account()
  await post('acme', { ...ids, access_token: token() })
  // The test advances only the clock of the process, not that of the database.
  let ahead = 0
  for (const reply of [temporarilyDown(), throttled(80007), new GraphError(400, 100, 'odd')]) {
    meta.fail('phone_numbers', { reply })
    await pollAll()
    t.equal(await verified('acme'), undefined)
    const { wait, ...health } = await healthOf('acme')
    t.match(health, { token_status: 'ok' })
    assertNear(t, wait + ahead, FIVE_MINUTES)
    advance(BLOCK_MS)
    ahead += BLOCK_MS
  }
  await pollAll()
  t.same(await verified('acme'), ids)
  await poll()
})

await t.test('a row that is written during its check stays unverified', async (t) => {
  const { post, put, poll, verified } = await startService(t)
  const { ids, token } = account()
  await post('acme', { ...ids, access_token: token() })
  const { answer: polling } = await startWithMetaFault(meta, 'phone_numbers', { latency_ms: 500 }, poll)
  await put('acme', { phone_number_id: '404' })
  await polling
  t.equal(await verified('acme'), undefined)
})

await t.test('an identity check that a database outage interrupts is repeated', async (t) => {
  const { post, poll, pollAll, verified, databaseUrl, log } = await startService(t)
  const { ids, token } = account()
  await post('acme', { ...ids, access_token: token() })
  const { answer: polling } = await startWithMetaFault(meta, 'phone_numbers', { latency_ms: 1500 }, poll)
  const restore = await makeUnreachable(databaseUrl)
  await polling
  t.match(log(), 'the check of a token failed; it is tried again')
  await restore()
  await pollAll()
  t.same(await verified('acme'), ids)
})

await t.test('a service closes without waiting for Meta and leaves the identity check due', async (t) => {
  const { post, env, sql } = await startService(t, { GRAPH_TIMEOUT_MS: 60_000 })
  const { ids, token } = account()
  await post('acme', { ...ids, access_token: token() })
  meta.fail('phone_numbers', { latency_ms: 60_000 })
  const { app } = await buildTestApp(t, env)
  await until(() => asked().includes('phone_numbers'))
  const began = performance.now()
  await app.close()
  t.ok(performance.now() - began < 3000)
  const watches = await sql('select status, next_check_at <= now() as due from token_watch')
  t.match(watches, [{ status: 'unverified', due: true }])
})
