import t from '../../run/tap.js'
import { isExpiring, nextState, timeLeft } from '../../../src/token-watch/state.js'
import { DAY, HOUR, inTime, invalid, MINUTE, NOW, previousState, transitionsOf, valid } from './states.js'

await t.test('status, reason and next check of a valid token depend on the time until it expires', async (t) => {
  const table: Array<[left: number | null, status: string, reason: string | null, wait: number]> = [
    [null, 'ok', null, DAY],
    [15 * DAY + 1, 'ok', null, DAY],
    [14 * DAY + HOUR, 'ok', null, HOUR],
    [14 * DAY + 1, 'ok', null, 1],
    [14 * DAY, 'expiring', 'expires_within_14_days', DAY],
    [7 * DAY + 2 * HOUR, 'expiring', 'expires_within_14_days', 2 * HOUR],
    [7 * DAY + 1, 'expiring', 'expires_within_14_days', 1],
    [7 * DAY, 'expiring', 'expires_within_7_days', DAY],
    [DAY + 1, 'expiring', 'expires_within_7_days', 1],
    [26 * HOUR, 'expiring', 'expires_within_7_days', 2 * HOUR],
    // The obstacle to an extension may disappear in time, so the checks are more frequent.
    [DAY, 'expiring', 'expires_within_1_day', 12 * HOUR],
    [HOUR, 'expiring', 'expires_within_1_day', HOUR / 2],
    [2 * MINUTE, 'expiring', 'expires_within_1_day', MINUTE],
    [MINUTE + 1, 'expiring', 'expires_within_1_day', MINUTE],
    [MINUTE - 1, 'expiring', 'expires_within_1_day', MINUTE - 1],
    [1, 'expiring', 'expires_within_1_day', 1],
    [0, 'expired', 'date_passed', DAY],
    [-DAY, 'expired', 'date_passed', DAY]
  ]
  for (const [left, status, reason, wait] of table) {
    // The reported expiry replaces any stored one.
    for (const expires_at of [null, inTime(-DAY), inTime(90 * DAY)]) {
      t.match(
        nextState(valid(left), previousState({ expires_at }), NOW, DAY),
        { status, reason, next_check: NOW + wait },
        `${left} ms left`
      )
    }
    t.equal(
      nextState(valid(left), previousState(), NOW, 1).next_check,
      NOW + 1,
      'the next check is not later than the interval'
    )
  }
})

await t.test('an invalid token is expired or revoked, and reauth_required if it stays invalid', async (t) => {
  for (const [expires_at, reason, status] of [
    [inTime(-1), 'meta_190_463', 'expired'],
    [inTime(0), 'other_app', 'expired'],
    [inTime(1), 'meta_190_463', 'revoked'],
    [null, 'meta_190_463', 'expired'],
    [null, 'meta_190_460', 'revoked'],
    [inTime(90 * DAY), 'PARTNER_REMOVED', 'revoked']
  ] as const) {
    for (const before of ['unverified', 'ok', 'expiring'] as const) {
      t.match(
        nextState(invalid(reason), previousState({ expires_at, status: before }), NOW, DAY),
        { status, reason, event: { type: `token.${status}`, from: before } }
      )
    }
    for (const before of ['expired', 'revoked', 'reauth_required'] as const) {
      t.match(
        nextState(invalid(reason), previousState({ expires_at, status: before }), NOW, DAY),
        { status: 'reauth_required', reason }
      )
    }
  }
  t.match(nextState(
    valid(-1),
    previousState({ status: 'expired' }),
    NOW,
    DAY
  ), { status: 'reauth_required', reason: 'date_passed' })
  // Two failed checks count as one if they are less than 5 minutes and less than an interval apart.
  for (const [ago, interval, status] of [
    [1, DAY, 'revoked'], [299_999, DAY, 'revoked'], [300_000, DAY, 'reauth_required'], [1000, 1000, 'reauth_required'],
    [999, 1000, 'revoked']
  ] as const) {
    t.match(
      nextState(
        invalid('meta_190_458'),
        previousState({ status: 'revoked', checked_at: inTime(-ago), reported: 'revoked' }),
        NOW,
        interval
      ),
      { status, reason: 'meta_190_458' },
      `${ago} ms ago`
    )
  }
  t.equal(nextState(invalid(), previousState({ expires_at: inTime(HOUR) }), NOW, DAY).next_check, NOW + HOUR)
})

await t.test('each transition emits one event', async (t) => {
  t.same(transitionsOf(valid(null), valid(null)), [], 'a valid token emits no event')
  t.same(transitionsOf(
    valid(90 * DAY),
    valid(14 * DAY),
    valid(13 * DAY),
    valid(7 * DAY),
    valid(6 * DAY),
    valid(DAY),
    valid(HOUR),
    valid(-1),
    invalid(),
    invalid()
  ), [
    'ok token.expiring expires_within_14_days',
    'expiring token.expiring expires_within_7_days',
    'expiring token.expiring expires_within_1_day',
    'expiring token.expired date_passed',
    'expired token.reauth_required meta_190_460'
  ])
  t.same(transitionsOf(valid(HOUR), valid(10 * DAY), valid(9 * DAY), valid(6 * DAY)), [
    'unverified token.expiring expires_within_1_day',
    'expiring token.expiring expires_within_7_days'
  ], 'a later expiry emits no event, a nearer one does')
  for (const [finding, from] of [[valid(HOUR), 'expiring'], [valid(-1), 'expired'], [invalid(), 'revoked']] as const) {
    t.same(transitionsOf(finding, valid(null), valid(null)).slice(1), [`${from} token.recovered null`])
    t.same(transitionsOf(finding, 'new token', valid(null), valid(null)).slice(1), [`${from} token.recovered null`])
    t.same(
      transitionsOf(finding, valid(null), finding).slice(2).map((event) => event.split(' ')[0]),
      ['ok'],
      'the finding emits an event again after a recovery'
    )
  }
  t.same(transitionsOf(invalid(), invalid(), valid(null)).at(-1), 'reauth_required token.recovered null')
  t.same(
    transitionsOf(invalid(), 'new token', invalid()),
    ['unverified token.revoked meta_190_460'],
    'an invalid successor emits no event'
  )
  t.same(transitionsOf(invalid(), 'new token', valid(DAY)).at(-1), 'revoked token.expiring expires_within_1_day')
})

await t.test('a token is expiring from 14 days before its expiry', async (t) => {
  for (const [left, is] of [
    [14 * DAY, true], [14 * DAY + 1, false], [HOUR, true], [-1, true], [Infinity, false]
  ] as const) t.equal(isExpiring(left), is, `${left} ms left`)
  t.same([timeLeft(null, NOW), timeLeft(inTime(5), NOW), timeLeft(inTime(-5), NOW)], [Infinity, 5, -5])
})

await t.test('an invalid token of an inactive tenant stays invalid after a valid finding', async (t) => {
  for (const status of ['expired', 'revoked', 'reauth_required'] as const) {
    const previous = previousState({ status, reason: 'PARTNER_REMOVED', reported: status, is_active: false })
    t.match(nextState(valid(null), previous, NOW, DAY), { status, reason: 'PARTNER_REMOVED', event: null })
    t.match(nextState(valid(null), { ...previous, is_active: true }, NOW, DAY), { status: 'ok', reason: null })
  }
  t.match(
    nextState(valid(null), previousState({ status: 'unverified', is_active: false }), NOW, DAY),
    { status: 'ok', reason: null }
  )
})

await t.test('the reported state contains the warning level', async (t) => {
  t.equal(nextState(valid(DAY), previousState(), NOW, DAY).reported, 'expiring:expires_within_1_day')
  t.equal(nextState(valid(null), previousState({ reported: 'expiring:expires_within_1_day' }), NOW, DAY).reported, 'ok')
  t.equal(nextState(invalid(), previousState(), NOW, DAY).reported, 'revoked')
  t.equal(nextState(valid(null), previousState(), NOW, DAY).reported, null)
  t.equal(nextState(valid(null), previousState({ reported: 'ok' }), NOW, DAY).reported, 'ok')
})
