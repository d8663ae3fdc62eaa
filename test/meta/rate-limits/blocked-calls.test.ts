import { mock } from 'node:test'
import t from '../../run/tap.js'
import { graphErrorDetails } from '../../../src/errors.js'
import type { MetaGraph } from '../../../src/meta/meta-graph.js'
import { BLOCK_MS } from '../../fixtures/clock.js'
import { type Answer, app, calls, json, meta, raw, refused, thrownBy, token } from '../wire.js'
import { account, headers, MINUTE, stopClock, WABA } from './rate-limited-client.js'

await t.test('a call that Meta would refuse is not made', async t => {
  const { advance } = stopClock(t)
  const other = 'EAAAnother'
  let next: Answer = json(200, { success: true })
  const { graph, urls, lines } = await meta(t, (res) => { next(res) })
  /** Makes a call that must not reach Meta, and returns its `retry_after` in seconds. */
  const withheld = async (made: Promise<unknown>) => {
    const before = urls.length
    const err = await thrownBy(made)
    t.equal(urls.length, before)
    t.match(err, { code: 'META_RATE_LIMITED', statusCode: 503 })
    t.strictSame(graphErrorDetails(err), { sent: false, meta_code: null, meta_subcode: null, fbtrace_id: null })
    t.match(lines.at(-1), { outcome: 'META_RATE_LIMITED', status: undefined, reason: 'blocked' })
    return Object(err).retry_after
  }

  next = refused(400, 80007)
  t.match(await thrownBy(calls.subscribe(graph)), { code: 'META_RATE_LIMITED', retry_after: 300 })
  next = json(200, { success: true, data: [] })
  advance(1500)
  t.equal(await withheld(calls.subscribe(graph)), 299)
  t.equal(await withheld(graph.listPhoneNumbers(app, other, WABA)), 299)
  t.equal(await withheld(graph.registerNumber(app, token, '1', '123456', WABA)), 299)
  t.equal(await withheld(graph.overridePhoneCallback(app, token, '1', null, WABA)), 299)
  t.equal(await withheld(graph.effectiveCallback(app, token, '1', WABA)), 299)
  await graph.listPhoneNumbers(app, token, '2')
  await graph.listPhoneNumbers({ ...app, id: '42' }, token, WABA)
  await graph.listPhoneNumbers(undefined, token, WABA)

  next = refused(400, 17)
  await thrownBy(graph.listPhoneNumbers(app, token, '2'))
  next = json(200, { success: true, data: [] })
  t.equal(await withheld(graph.listPhoneNumbers(app, token, '2')), 300)
  t.equal(await withheld(graph.listPhoneNumbers(undefined, token, '3')), 300)
  t.equal(await withheld(graph.inspectToken(app, token)), 300)
  await graph.listPhoneNumbers(app, other, '2')

  next = json(400, { error: { code: 4 } }, headers({ ofApp: { call_count: 100, estimated_time_to_regain_access: 7 } }))
  t.match(await thrownBy(calls.debug_token(graph)), { retry_after: 300 }, 'the token still waits for its user')
  t.match(await thrownBy(graph.inspectToken(app, other)), { retry_after: 420 })
  next = json(200, { success: true, data: [] })
  advance(BLOCK_MS)
  for (const [name, call] of Object.entries(calls)) t.equal(await withheld(call(graph)), 119, name)
  t.throws(() => { graph.assertExchangeUnblocked(app) }, { code: 'META_RATE_LIMITED' })
  t.strictSame(graph.blockedApps(), [app.id])
  await graph.listPhoneNumbers({ ...app, id: '42' }, token, WABA)
  advance(2 * MINUTE)
  t.strictSame(graph.blockedApps(), [])
  await calls.subscribe(graph)
  graph.assertExchangeUnblocked(app)
})

await t.test('a token limit, or an account limit of a call without an account, blocks the token', async t => {
  for (const code of [17, 32, 613, 80007, 80008]) {
    const { advance } = stopClock(t)
    const { graph, urls } = await meta(t, refused(400, code))
    for (let times = 0; times < 2; times++) {
      t.match(await thrownBy(calls.debug_token(graph)), { code: 'META_RATE_LIMITED', retry_after: 300 })
    }
    t.equal(urls.length, 1, String(code))
    advance(BLOCK_MS)
    await thrownBy(calls.debug_token(graph))
    t.equal(urls.length, 2, String(code))
    mock.timers.reset()
  }
})

await t.test('a successful call without an app blocks nothing', async t => {
  const { graph, urls } = await meta(t, json(200, { data: [] }))
  for (let times = 0; times < 2; times++) t.same(await graph.listPhoneNumbers(undefined, token, WABA), [])
  t.equal(urls.length, 2)
})

await t.test('the limit of a token that may belong to another app blocks the token only', async t => {
  stopClock(t)
  const limits = headers({
    ofApp: { call_count: 100 },
    ofAccounts: { [WABA]: [account({ call_count: 100, estimated_time_to_regain_access: 9 })] }
  })
  const free = { percent: 0, blockedUntil: 0 }
  for (const answer of [
    json(400, { error: { code: 4 } }, limits), json(429, { error: { code: 80007 } }, limits), refused(400, 17),
    raw(429, '')
  ]) {
    const made = [
      calls.unsubscribe,
      async (graph: MetaGraph) => { await graph.listPhoneNumbers(undefined, token, WABA) }
    ]
    for (const calls of [made, made.toReversed()]) {
      const { graph, urls } = await meta(t, answer)
      for (const call of calls) t.match(await thrownBy(call(graph)), { code: 'META_RATE_LIMITED' })
      t.equal(urls.length, 1, 'with or without an app')
      t.strictSame(
        [graph.utilizationOf(app.id), graph.utilizationOf(app.id, WABA), graph.blockedApps()],
        [free, free, []]
      )
    }
  }
  const { graph } = await meta(t, json(200, { success: true }, limits))
  await calls.unsubscribe(graph)
  t.equal(graph.utilizationOf(app.id).percent, 100, 'a token with a good proof is the app\'s')
})
