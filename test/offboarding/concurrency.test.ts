import t from '../run/tap.js'
import { tokenRefused } from '../graph/errors.js'
import { faults, type Fault } from '../graph/faults.js'
import { connect, until, untilWaiting } from '../helper.js'
import { app as platform } from '../meta/wire.js'
import { config } from '../routes/client.js'
import { forceOffboardUrl, offboardingService, offboardUrl } from './offboarding-service.js'

const {
  call, log, databaseUrl, meta, issue, newWaba, tenant, unsubscribeCalls, assertDeleted, startOffboardingWithFault
} = await offboardingService(t)

await t.test('the second of two concurrent calls is a 404', async (t) => {
  for (let i = 0; i < 10; i++) {
    const { who, waba } = await tenant()
    const answers = await Promise.all([call(who, 'DELETE', offboardUrl), call(who, 'DELETE', offboardUrl)])
    t.strictSame(answers.map(({ is }) => is).sort(), ['204', '404 CONFIG_NOT_FOUND'])
    t.equal(waba.subscriptions.size, 0)
  }
  // Meta refuses the slower call, since the faster one has already unsubscribed the app.
  const { who } = await tenant()
  const { answer: slower } = await startOffboardingWithFault(who, { latency_ms: 600, reply: tokenRefused(458, 401) })
  t.equal((await call(who, 'DELETE', offboardUrl)).is, '204')
  t.equal((await slower).is, '404 CONFIG_NOT_FOUND')
})

await t.test('two concurrent calls of one tenant do not unsubscribe a shared account', async (t) => {
  for (let i = 0; i < 5; i++) {
    const { who, waba } = await tenant()
    await tenant({}, waba)
    const other = await connect(t, databaseUrl)
    await other.query('begin; select from tenant_configs for update')
    const calls = [call(who, 'DELETE', offboardUrl), call(who, 'DELETE', offboardUrl)]
    await untilWaiting(databaseUrl, 2)
    await other.query('rollback')
    t.strictSame((await Promise.all(calls)).map(({ is }) => is).sort(), ['204', '404 CONFIG_NOT_FOUND'])
    t.strictSame([waba.subscriptions.size, unsubscribeCalls()], [1, 0])
  }
})

await t.test('the second of the last two tenants that leave concurrently unsubscribes the account', async (t) => {
  for (let i = 0; i < 5; i++) {
    const first = await tenant()
    const second = await tenant({}, first.waba)
    const other = await connect(t, databaseUrl)
    await other.query('begin; select from tenant_configs for update')
    const calls = [call(first.who, 'DELETE', offboardUrl), call(second.who, 'DELETE', offboardUrl)]
    await untilWaiting(databaseUrl, 2)
    await other.query('rollback')
    t.strictSame((await Promise.all(calls)).map(({ is }) => is), ['204', '204'])
    t.equal(first.waba.subscriptions.size, 0)
  }
})

await t.test('a change of the account during the unsubscription unsubscribes both accounts', async (t) => {
  const { who, waba } = await tenant()
  const moved = newWaba()
  const { answer } = await startOffboardingWithFault(who, { latency_ms: 600 })
  t.equal((await call(who, 'PUT', config, { waba_id: moved.id })).is, '200')
  t.equal((await answer).is, '204')
  await assertDeleted(t, who)
  t.strictSame([waba.subscriptions.size, moved.subscriptions.size], [0, 0], 'both accounts are unsubscribed')
})

await t.test('an account that another tenant joins during the unsubscription is subscribed again', async (t) => {
  const offboardWhileJoined = async (fault: Fault = {}, url = offboardUrl) => {
    const { id, who, waba } = await tenant()
    meta.requests.length = 0
    const { answer } = await startOffboardingWithFault(who, { latency_ms: 600, ...fault }, url)
    const neighbour = await tenant({}, waba)
    return { id, who, waba, answer, neighbour }
  }
  const { id, who, waba, answer, neighbour } = await offboardWhileJoined()
  t.equal((await answer).is, '204')
  await assertDeleted(t, who)
  await assertDeleted(t, neighbour.who, false)
  t.strictSame([...waba.subscriptions], [[platform.id, {}]])
  t.match(
    log(),
    new RegExp(`"level":40[^\\n]*"tenant_id":"${id}","waba_id":"${waba.id}"[^\\n]*subscribed our app again`)
  )
  t.same(meta.requests.map(({ route }) => route), ['unsubscribe', 'subscriptions', 'subscribe'])

  // An onboarding may have subscribed it already; a second subscription would clear its callback.
  const onboarded = await offboardWhileJoined()
  const override = { override: { url: 'https://a.example', verify_token: 'x' } }
  onboarded.waba.subscriptions.set(platform.id, override)
  t.equal((await onboarded.answer).is, '204')
  t.strictSame([...onboarded.waba.subscriptions], [[platform.id, override]])
  t.notMatch(log(), new RegExp(`"tenant_id":"${onboarded.id}"[^\\n]*subscribed our app again`))

  const failing = await offboardWhileJoined()
  meta.fail('subscribe', faults.dropBefore)
  t.equal((await failing.answer).is, '204', 'a failed subscription does not fail the offboarding')
  t.equal(failing.waba.subscriptions.size, 0)
  t.match(
    log(),
    new RegExp(
      `"level":40[^\\n]*META_UNAVAILABLE[^\\n]*"tenant_id":"${failing.id}","waba_id":"${failing.waba.id}"` +
        '[^\\n]*could not subscribe our app again'
    )
  )

  const forced = await offboardWhileJoined({ drop: true, processed: true }, forceOffboardUrl)
  t.equal((await forced.answer).is, '204')
  t.strictSame([...forced.waba.subscriptions], [[platform.id, {}]], 'after an unknown outcome')

  const passing = await offboardWhileJoined()
  meta.fail('subscribe', { latency_ms: 600 })
  await until(() => meta.requests.some(({ route }) => route === 'subscribe'))
  t.equal((await call(passing.neighbour.who, 'DELETE', config)).is, '204')
  t.equal((await passing.answer).is, '204')
  t.strictSame([passing.waba.subscriptions.size, unsubscribeCalls()], [0, 2], 'the neighbour has left too')
})

await t.test('a token that is replaced during the unsubscription unsubscribes once more', async (t) => {
  const { who, waba } = await tenant()
  const newToken = issue()
  const { answer } = await startOffboardingWithFault(who, { latency_ms: 600 })
  t.equal((await call(who, 'PUT', config, { access_token: newToken })).is, '200')
  waba.subscriptions.set(platform.id, {})
  t.equal((await answer).is, '204')
  await assertDeleted(t, who)
  t.equal(waba.subscriptions.size, 0)
  t.equal(meta.requests.at(-1)?.headers.authorization, `Bearer ${newToken}`)
  t.equal(unsubscribeCalls(), 2)
})
