import t from '../run/tap.js'
import { DAY, inTime, unlimited, selectWatches, revoked, startService } from './unpolled-service.js'

await t.test('a transition appears once in the log, at each listener and in the outbox', async (t) => {
  const { app, store, tokenWatch, transitions, log, sql } = await startService(t, {
    EVENTS_WEBHOOK_URL: 'https://events.example/',
    EVENTS_WEBHOOK_SECRET: 'the secret of events'
  })
  // The delivery must not claim an event before it is read here.
  await sql("alter table events_outbox alter column next_attempt_at set default now() + interval '1 hour'")
  const ignored: string[] = []
  app.events.onEvent(() => { throw new Error('a listener that fails') })
  app.events.onEvent(async () => { throw new Error('one that fails later') })
  app.events.onEvent(({ type }) => { ignored.push(type) })()
  const sealed = await store('acme')
  for (const finding of [unlimited, revoked, unlimited, unlimited]) {
    t.equal(await tokenWatch.record('acme', sealed, finding), true)
  }
  t.match(transitions, [
    {
      id: /^[\da-f-]{36}$/,
      type: 'token.revoked',
      tenant_id: 'acme',
      from: 'ok',
      to: 'revoked',
      reason: 'meta_190_460',
      at: /^\d{4}-.+Z$/
    },
    { type: 'token.recovered', tenant_id: 'acme', from: 'revoked', to: 'ok', reason: null }
  ])
  t.equal(transitions.length, 2)
  t.same(ignored, [])
  const outbox = await sql('select * from events_outbox order by at')
  t.match(outbox, transitions.map(({ at, ...event }) => ({ ...event, at: new Date(at), attempts: 0 })))
  t.equal(outbox.length, 2)
  const lines = log().split('\n').filter((line) => line.includes('"event":')).map((line) => JSON.parse(line))
  t.match(lines, [
    { level: 40, msg: 'token.revoked', event: transitions[0] },
    { level: 30, msg: 'token.recovered', event: transitions[1] }
  ])
  t.equal(log().split('a listener of token transitions failed').length, 5, 'each failure of a listener is logged')
  t.notMatch(log(), sealed)
})

await t.test('the outbox stays empty if EVENTS_WEBHOOK_URL is not set', async (t) => {
  const { store, tokenWatch, transitions, sql } = await startService(t)
  await tokenWatch.record('acme', await store('acme'), revoked)
  t.equal(transitions.length, 1)
  t.same(await sql('select * from events_outbox'), [])
})

await t.test('the reported state of a former token makes its valid successor a recovery', async (t) => {
  const { store, tokenWatch, transitions } = await startService(t)
  await tokenWatch.record('acme', await store('acme'), revoked)
  const sealed = await store('acme', 'another token')
  t.match(await tokenWatch.healthOf('acme'), { token_status: 'unverified', reason: null, checked_at: null })
  await tokenWatch.record('acme', sealed, unlimited)
  t.match(
    transitions.map(({ type, from }) => [type, from]),
    [['token.revoked', 'unverified'], ['token.recovered', 'revoked']]
  )
})

await t.test('the reason of a deactivation stays until the tenant is active again', async (t) => {
  const { store, tokenWatch, tenantConfigs, transitions, sql } = await startService(t)
  const sealed = await store('acme')
  await tokenWatch.record('acme', sealed, { valid: false, reason: 'PARTNER_REMOVED' })
  await tenantConfigs.setActive('acme', false)
  t.equal(await tokenWatch.record('acme', sealed, unlimited), true)
  t.match(
    await sql(selectWatches),
    [{ status: 'revoked', reason: 'PARTNER_REMOVED', due: false }],
    'a valid finding does not change the status'
  )
  await tenantConfigs.setActive('acme', true)
  t.match(await sql(selectWatches), [{ status: 'revoked', due: true }])
  await tokenWatch.record('acme', sealed, unlimited)
  t.match(await sql(selectWatches), [{ status: 'ok', reason: null }])
  t.same(transitions.map(({ type }) => type), ['token.revoked', 'token.recovered'])
})

await t.test('a transition that is recorded 20 times concurrently is emitted once', async (t) => {
  const { store, tokenWatch, transitions, sql } = await startService(t)
  const sealed = await store('acme')
  const soon = { valid: true, expires_at: inTime(DAY / 2).replace(/\.\d+/, '.000') } as const
  t.same(
    await Promise.all(Array.from({ length: 20 }, async () => await tokenWatch.record('acme', sealed, soon))),
    Array(20).fill(true)
  )
  t.match(transitions.map(({ type }) => type), ['token.expiring'])
  t.match(await sql(selectWatches), [{ reported: 'expiring:expires_within_1_day' }])
})

await t.test('a failed transaction of the caller records and emits nothing', async (t) => {
  const { store, tokenWatch, tenantConfigs, transitions, sql } = await startService(t, {
    EVENTS_WEBHOOK_URL: 'https://events.example/',
    EVENTS_WEBHOOK_SECRET: 'the secret of events'
  })
  const sealed = await store('acme')
  await t.rejects(tenantConfigs.inTransaction(new Set(['acme']), async (tx) => {
    t.match(await tokenWatch.recordIn(tx, 'acme', sealed, revoked), { transition: { type: 'token.revoked' } })
    throw new Error('the caller fails')
  }), { message: 'the caller fails' })
  t.match(await sql(selectWatches), [{ status: 'unverified', reported: null }])
  t.same(await sql('select * from events_outbox'), [])
  t.same(transitions, [])
})
