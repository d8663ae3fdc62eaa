import t from '../../run/tap.js'
import { json } from '../wire.js'
import { account, client, fine, MINUTE, NOW, stopClock } from './rate-limited-client.js'

await t.test('the utilization of an app or subject is the highest percentage in its latest answers', async t => {
  const { advance } = stopClock(t)
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
    'the latest answer of an account replaces the one before'
  )
  await call(json(200, { success: true }))
  t.equal(usage('2').percent, 60, 'an answer without usage changes nothing')
  t.strictSame(usageOf('another'), { percent: 0, blockedUntil: 0 })

  advance(40 * MINUTE)
  await call(fine({ ofApp: { call_count: 12 } }))
  t.equal(usage('2').percent, 60)
  advance(21 * MINUTE)
  t.equal(usage('2').percent, 12)
  advance(40 * MINUTE)
  t.strictSame(usage(), { percent: 0, blockedUntil: 0 }, 'an hour after the last report')
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

await t.test('unusable usage headers are ignored, and huge values are bounded', async t => {
  stopClock(t)
  const odd = [
    '', 'x', '{', 'null', '1', '"x"', '[]', '[1]', '{}', '{"a":1}', '{"a":[1]}', '{"a":[null]}', '{"a":[]}',
    '{"a":{"call_count":99}}', '{"__proto__":[{}]}', '{}, {"call_count":5}'
  ]
  const values = ['"99.5"', '"-5"', '-5', 'null', '{}', '[99]', 'false', '-1e999', '-0'].flatMap(value => [
    `{"call_count":${value},"total_time":${value}}`,
    `{"a":[{"call_count":${value},"estimated_time_to_regain_access":${value}}]}`
  ])
  for (const value of [...odd, ...values]) {
    const { call, usage } = await client(t)
    await call(json(200, { success: true }, { 'x-app-usage': value, 'x-business-use-case-usage': value }))
    t.strictSame([usage(), usage('a'), usage('__proto__')], Array(3).fill({ percent: 0, blockedUntil: 0 }), value)
  }
  for (const huge of ['1e999', '1e300', String(Number.MAX_SAFE_INTEGER), '"100000"']) {
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
