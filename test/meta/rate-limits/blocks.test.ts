import { mock } from 'node:test'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import type { MetaGraph } from '../../../src/meta/meta-graph.js'
import { graphErrorDetails } from '../../../src/errors.js'
import { BLOCK_MS } from '../../fixtures/clock.js'
import { type Answer, app, calls, json, meta, raw, refused, thrownBy, token } from '../wire.js'

/** The account that the calls are about. */
const WABA = '102290129340398'

const MINUTE = 60_000
const NOW = Date.parse('2026-11-23T12:00:00Z')

/** Stops the clock; `goOn` advances it. */
function stopClock (t: Test) {
  mock.timers.enable({ apis: ['Date'], now: NOW })
  t.teardown(() => { mock.timers.reset() })
  return { goOn: (ms: number) => { mock.timers.setTime(Date.now() + ms) } }
}

/** A client, and a function that makes a call and chooses its answer. */
async function client (t: Test) {
  let next: Answer = json(200, { success: true })
  const { graph } = await meta(t, (res) => { next(res) })
  return {
    usage: (subject?: string) => graph.utilizationOf(app.id, subject),
    usageOf: (id: string) => graph.utilizationOf(id),
    /** Makes a call that receives this answer. */
    async call (answer: Answer, name: keyof typeof calls = 'subscribe') {
      next = answer
      await thrownBy(Promise.resolve(calls[name](graph)))
    }
  }
}

const headers = ({ ofApp, ofAccounts }: { ofApp?: unknown, ofAccounts?: unknown }) => ({
  ...(ofApp === undefined ? {} : { 'x-app-usage': JSON.stringify(ofApp) }),
  ...(ofAccounts === undefined ? {} : { 'x-business-use-case-usage': JSON.stringify(ofAccounts) })
})
const fine = (usage: { ofApp?: unknown, ofAccounts?: unknown }) => json(200, { success: true }, headers(usage))
const account = (more: object) => ({
  type: 'whatsapp_business_management',
  call_count: 3,
  total_cputime: 1,
  total_time: 1,
  estimated_time_to_regain_access: 0,
  ...more
})

await t.test('the utilization of an app or subject is the highest share in its latest answers', async t => {
  const { goOn } = stopClock(t)
  const { call, usage, usageOf } = await client(t)
  t.strictSame(usage(), { percent: 0, blockedUntil: 0 })
  await call(json(200, { success: true }))
  t.strictSame(usage(), { percent: 0, blockedUntil: 0 })

  await call(fine({ ofApp: { call_count: 28, total_time: 25, total_cputime: 31 } }))
  t.strictSame(usage(), { percent: 31, blockedUntil: 0 })
  await call(
    fine({ ofAccounts: { 1: [account({}), account({ call_count: 80 })], 2: [account({ total_time: 60 })] } }),
    'access_token'
  )
  t.strictSame([usage(), usage('1'), usage('2'), usage('3')].map(({ percent }) => percent), [31, 80, 60, 31])
  await call(fine({ ofAccounts: { 1: [account({})] } }))
  t.strictSame(
    [usage('1'), usage('2')].map(({ percent }) => percent),
    [31, 60],
    'an account counts as its latest answer says'
  )
  await call(json(200, { success: true }))
  t.equal(usage('2').percent, 60, 'an answer that says nothing changes nothing')
  t.strictSame(usageOf('another'), { percent: 0, blockedUntil: 0 })

  goOn(40 * MINUTE)
  await call(fine({ ofApp: { call_count: 12 } }))
  t.equal(usage('2').percent, 60)
  goOn(21 * MINUTE)
  t.equal(usage('2').percent, 12)
  goOn(40 * MINUTE)
  t.strictSame(usage(), { percent: 0, blockedUntil: 0 }, 'an hour after the last word')
})

await t.test('a subject is blocked until the time that Meta names', async t => {
  const { goOn } = stopClock(t)
  const { call, usage, usageOf } = await client(t)
  await call(
    fine(
      {
        ofAccounts: {
          1: [account({ estimated_time_to_regain_access: 7 })],
          2: [account({ estimated_time_to_regain_access: 3 })]
        }
      }
    )
  )
  const regains = () => [usage(), usage('1'), usage('2'), usage('3')].map(({ blockedUntil }) => blockedUntil)
  t.strictSame(regains(), [0, NOW + 7 * MINUTE, NOW + 3 * MINUTE, 0])
  await call(fine({ ofAccounts: { 1: [account({ estimated_time_to_regain_access: 2 })] } }))
  await call(fine({}))
  t.equal(usage('1').blockedUntil, NOW + 7 * MINUTE, 'an earlier time does not shorten it')
  goOn(3 * MINUTE)
  t.strictSame(regains(), [0, NOW + 7 * MINUTE, 0, 0])
  goOn(4 * MINUTE)
  t.strictSame(regains(), [0, 0, 0, 0])
  await call(
    json(
      429,
      { error: { code: 80007 } },
      headers({ ofAccounts: { 1: [account({ call_count: 101, estimated_time_to_regain_access: 119 })] } })
    )
  )
  t.strictSame(usage('1'), { percent: 100, blockedUntil: NOW + 126 * MINUTE })
  t.strictSame([usage(), usage('2'), usageOf('1')].map(({ blockedUntil }) => blockedUntil), [0, 0, 0])
  goOn(61 * MINUTE)
  t.strictSame(usage('1'), { percent: 0, blockedUntil: NOW + 126 * MINUTE }, 'a wait is remembered until it is over')
  t.equal(usage(WABA).blockedUntil, NOW + 126 * MINUTE, 'and so has the account that was asked about')
  await call(fine({ ofApp: { estimated_time_to_regain_access: 90 } }), 'debug_token')
  t.strictSame(regains(), Array(4).fill(NOW + 158 * MINUTE), 'that of the app is everybody\'s')
})

await t.test('a refusal for an app limit blocks the app for five minutes, and an account as Meta says', async t => {
  stopClock(t)
  for (const [status, code] of [[400, 4], [429, 1]] as const) {
    const { call, usage } = await client(t)
    await call(
      json(
        status,
        { error: { code } },
        headers({ ofAccounts: { 1: [account({ estimated_time_to_regain_access: 19 })] } })
      )
    )
    t.strictSame(
      [usage(), usage('1'), usage('2')].map(({ blockedUntil }) => blockedUntil),
      [5, 19, 5].map(minutes => NOW + minutes * MINUTE)
    )
  }
})

await t.test('the number of remembered subjects is bounded', async t => {
  const { call, usage } = await client(t)
  const last = 110 * 100 - 1
  for (let i = 0; i <= last; i += 100) {
    await call(
      fine(
        {
          ofAccounts: Object.fromEntries(
            Array.from({ length: 100 }, (_, j) => [
              `${i + j}`,
              [{ call_count: 50, estimated_time_to_regain_access: 20 }]
            ])
          )
        }
      )
    )
  }
  t.strictSame(usage('0'), { percent: 0, blockedUntil: 0 })
  t.equal(usage(String(last)).percent, 50)
  t.not(usage(String(last)).blockedUntil, 0)
})

await t.test('a refusal for a limit blocks its scope for five minutes if Meta names no time', async t => {
  stopClock(t)
  const held = { percent: 0, blockedUntil: NOW + 5 * MINUTE }
  const free = { percent: 0, blockedUntil: 0 }
  const ofApp: Answer[] = [
    ...[4, 341].map(code => refused(400, code)), refused(429, 1), raw(429, '<html>'), refused(500, 4),
    json(429, { error: { code: 4 } }, headers({ ofApp: { call_count: 0 } }))
  ]
  for (const answer of ofApp) {
    for (const name of ['subscribe', 'access_token', 'debug_token'] as const) {
      const { call, usage } = await client(t)
      await call(answer, name)
      t.strictSame([usage(), usage(WABA)], [held, held])
    }
  }
  for (const code of [80007, 80008]) {
    for (const name of ['subscribe', 'phone_numbers'] as const) {
      const { call, usage } = await client(t)
      await call(refused(400, code), name)
      t.strictSame([usage(), usage(WABA), usage('2')], [free, held, free], `${code} is the account's`)
    }
  }
  for (const code of [17, 32, 613, 80007, 80008]) {
    for (const name of [17, 32, 613].includes(code)
      ? ['subscribe', 'debug_token'] as const
      : ['debug_token', 'access_token', 'register'] as const) {
      const { call, usage } = await client(t)
      await call(refused(400, code), name)
      t.strictSame([usage(), usage(WABA)], [free, free], `${code} at ${name} is the token's`)
    }
  }
  for (const answer of [refused(400, 100), refused(500, 2), raw(503, ''), refused(401, 190, 463)]) {
    const { call, usage } = await client(t)
    await call(answer)
    t.strictSame(usage(), free)
  }
})

await t.test('a limit at 100 percent is a block, for five minutes if Meta names no time', async t => {
  stopClock(t)
  const { call, usage } = await client(t)
  await call(
    fine(
      {
        ofAccounts: {
          1: [account({ call_count: 100 })],
          2: [account({ call_count: 100, estimated_time_to_regain_access: 2 })],
          3: [account({ total_time: 99 })]
        }
      }
    )
  )
  t.strictSame(['1', '2', '3'].map(id => usage(id).blockedUntil), [NOW + 5 * MINUTE, NOW + 2 * MINUTE, 0])
  await call(fine({ ofApp: { total_cputime: 100 } }))
  t.strictSame([usage(), usage('3')], Array(2).fill({ percent: 100, blockedUntil: NOW + 5 * MINUTE }))
})

await t.test('a call that Meta would refuse is not made', async t => {
  const { goOn } = stopClock(t)
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
  goOn(1500)
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
  goOn(BLOCK_MS)
  for (const [name, call] of Object.entries(calls)) t.equal(await withheld(call(graph)), 119, name)
  t.throws(() => { graph.assertExchangeUnblocked(app) }, { code: 'META_RATE_LIMITED' })
  t.strictSame(graph.blockedApps(), [app.id])
  await graph.listPhoneNumbers({ ...app, id: '42' }, token, WABA)
  goOn(2 * MINUTE)
  t.strictSame(graph.blockedApps(), [])
  await calls.subscribe(graph)
  graph.assertExchangeUnblocked(app)
})

await t.test('a token limit, or an account limit of a call without an account, blocks the token', async t => {
  for (const code of [17, 32, 613, 80007, 80008]) {
    const { goOn } = stopClock(t)
    const { graph, urls } = await meta(t, refused(400, code))
    for (let times = 0; times < 2; times++) {
      t.match(await thrownBy(calls.debug_token(graph)), { code: 'META_RATE_LIMITED', retry_after: 300 })
    }
    t.equal(urls.length, 1, String(code))
    goOn(BLOCK_MS)
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

await t.test('unusable usage headers are ignored, and huge values are bounded', async t => {
  stopClock(t)
  const odd = [
    '', 'x', '{', 'null', '1', '"x"', '[]', '[1]', '{}', '{"a":1}', '{"a":[1]}', '{"a":[null]}', '{"a":[]}',
    '{"a":{"call_count":99}}', '{"__proto__":[{}]}', '{}, {"call_count":5}'
  ]
  const values = ['"99"', '-5', 'null', '{}', '[99]', 'false', '-1e999', '-0'].flatMap(value => [
    `{"call_count":${value},"total_time":${value}}`,
    `{"a":[{"call_count":${value},"estimated_time_to_regain_access":${value}}]}`
  ])
  for (const value of [...odd, ...values]) {
    const { call, usage } = await client(t)
    await call(json(200, { success: true }, { 'x-app-usage': value, 'x-business-use-case-usage': value }))
    t.strictSame([usage(), usage('a'), usage('__proto__')], Array(3).fill({ percent: 0, blockedUntil: 0 }), value)
  }
  for (const huge of ['1e999', '1e300', String(Number.MAX_SAFE_INTEGER)]) {
    const { call, usage } = await client(t)
    await call(
      json(
        200,
        { success: true },
        { 'x-business-use-case-usage': `{"a":[{"call_count":${huge},"estimated_time_to_regain_access":${huge}}]}` }
      )
    )
    t.strictSame(usage('a'), { percent: 100, blockedUntil: NOW + 24 * 60 * MINUTE }, huge)
  }

  const { call, usage } = await client(t)
  const accounts = Object.fromEntries(
    Array.from({ length: 33 }, (_, i) => [String(i), [account({ call_count: 33 + i })]])
  )
  await call(fine({ ofAccounts: accounts }))
  t.strictSame(usage('32'), { percent: 65, blockedUntil: 0 })
})
