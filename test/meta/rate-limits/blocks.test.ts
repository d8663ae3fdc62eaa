import t from '../../run/tap.js'
import { type Answer, json, raw, refused } from '../wire.js'
import { account, client, fine, headers, MINUTE, NOW, stopClock, WABA } from './rate-limited-client.js'

await t.test('a subject is blocked until the time that Meta names', async t => {
  const { advance } = stopClock(t)
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
  const blocks = () => [usage(), usage('1'), usage('2'), usage('3')].map(({ blockedUntil }) => blockedUntil)
  t.strictSame(blocks(), [0, NOW + 7 * MINUTE, NOW + 3 * MINUTE, 0])
  await call(fine({ ofAccounts: { 1: [account({ estimated_time_to_regain_access: 2 })] } }))
  await call(fine({}))
  t.equal(usage('1').blockedUntil, NOW + 7 * MINUTE, 'an earlier time does not shorten it')
  advance(3 * MINUTE)
  t.strictSame(blocks(), [0, NOW + 7 * MINUTE, 0, 0])
  advance(4 * MINUTE)
  t.strictSame(blocks(), [0, 0, 0, 0])
  await call(
    json(
      429,
      { error: { code: 80007 } },
      headers({ ofAccounts: { 1: [account({ call_count: 101, estimated_time_to_regain_access: 119 })] } })
    )
  )
  t.strictSame(usage('1'), { percent: 100, blockedUntil: NOW + 126 * MINUTE })
  t.strictSame([usage(), usage('2'), usageOf('1')].map(({ blockedUntil }) => blockedUntil), [0, 0, 0])
  advance(61 * MINUTE)
  t.strictSame(usage('1'), { percent: 0, blockedUntil: NOW + 126 * MINUTE }, 'a wait is remembered until it is over')
  t.equal(usage(WABA).blockedUntil, NOW + 126 * MINUTE, 'and so has the account of the call')
  await call(fine({ ofApp: { estimated_time_to_regain_access: 90 } }), 'debug_token')
  t.strictSame(blocks(), Array(4).fill(NOW + 158 * MINUTE), 'that of the app is everybody\'s')
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

await t.test('a refusal for a limit blocks its scope for five minutes if Meta names no time', async t => {
  stopClock(t)
  const blocked = { percent: 0, blockedUntil: NOW + 5 * MINUTE }
  const free = { percent: 0, blockedUntil: 0 }
  const ofApp: Answer[] = [
    ...[4, 341].map(code => refused(400, code)), refused(429, 1), raw(429, '<html>'), refused(500, 4),
    json(429, { error: { code: 4 } }, headers({ ofApp: { call_count: 0 } }))
  ]
  for (const answer of ofApp) {
    for (const name of ['subscribe', 'access_token', 'debug_token'] as const) {
      const { call, usage } = await client(t)
      await call(answer, name)
      t.strictSame([usage(), usage(WABA)], [blocked, blocked])
    }
  }
  for (const code of [80007, 80008]) {
    for (const name of ['subscribe', 'phone_numbers'] as const) {
      const { call, usage } = await client(t)
      await call(refused(400, code), name)
      t.strictSame([usage(), usage(WABA), usage('2')], [free, blocked, free], `${code} is the account's`)
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
