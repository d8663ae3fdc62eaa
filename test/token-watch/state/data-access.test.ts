import t from '../../run/tap.js'
import { endOf, nextState } from '../../../src/token-watch/state.js'
import { bounded, DAY, HOUR, inTime, invalid, NOW, previousState, transitionsOf, valid } from './states.js'

await t.test('the end of the access to data counts like an expiry if it is earlier', async (t) => {
  const table: Array<[number | null, number | null, status: string, reason: string | null, wait: number]> = [
    [null, null, 'ok', null, DAY],
    [null, 90 * DAY, 'ok', null, DAY],
    [null, 14 * DAY + HOUR, 'ok', null, HOUR],
    [null, 14 * DAY, 'expiring', 'data_access_ends_within_14_days', DAY],
    [60 * DAY, 7 * DAY, 'expiring', 'data_access_ends_within_7_days', DAY],
    // No extension prolongs the access to data, so the checks are not more frequent.
    [60 * DAY, DAY, 'expiring', 'data_access_ends_within_1_day', DAY],
    [60 * DAY, 3 * HOUR, 'expiring', 'data_access_ends_within_1_day', 3 * HOUR],
    [5 * HOUR, 4 * HOUR, 'expiring', 'data_access_ends_within_1_day', 2.5 * HOUR],
    [4 * HOUR, 5 * HOUR, 'expiring', 'expires_within_1_day', 2 * HOUR],
    [4 * HOUR, 4 * HOUR, 'expiring', 'expires_within_1_day', 2 * HOUR],
    [60 * DAY, 0, 'expired', 'data_access_ended', DAY],
    [null, -DAY, 'expired', 'data_access_ended', DAY],
    [-DAY, -HOUR, 'expired', 'date_passed', DAY],
    [-HOUR, -DAY, 'expired', 'data_access_ended', DAY]
  ]
  for (const [left, dataAccess, status, reason, wait] of table) {
    t.match(
      nextState(bounded(left, dataAccess), previousState(), NOW, DAY),
      {
        status,
        reason,
        next_check: NOW + wait,
        expires_at: left === null ? null : inTime(left),
        data_access_ends_at: dataAccess === null ? null : inTime(dataAccess)
      },
      `${left} ms, and ${dataAccess} ms of access to data`
    )
  }
})

await t.test('a finding that does not know the end of the access to data keeps the stored one', async (t) => {
  const previous = previousState({ data_access_ends_at: inTime(6 * DAY), status: 'ok' })
  t.match(nextState(valid(60 * DAY), previous, NOW, DAY), {
    status: 'expiring',
    reason: 'data_access_ends_within_7_days',
    data_access_ends_at: inTime(6 * DAY)
  })
  t.match(nextState(invalid(), previous, NOW, DAY), { status: 'revoked', data_access_ends_at: inTime(6 * DAY) })
  const ended = previousState({ data_access_ends_at: inTime(-1) })
  t.match(nextState(invalid(), ended, NOW, DAY), { status: 'expired', reason: 'meta_190_460' })
  t.match(nextState(bounded(null, null), previous, NOW, DAY), { status: 'ok', data_access_ends_at: null })
})

await t.test('a warning of each level is reported once, whichever end it is about', async (t) => {
  t.same(transitionsOf(
    bounded(null, 14 * DAY),
    bounded(13 * DAY, 14 * DAY),
    bounded(13 * DAY, 7 * DAY),
    bounded(6 * DAY, 8 * DAY),
    bounded(DAY, 2 * DAY),
    bounded(HOUR, HOUR / 2),
    bounded(HOUR, 0),
    bounded(HOUR, 0),
    bounded(HOUR, 90 * DAY)
  ), [
    'unverified token.expiring data_access_ends_within_14_days',
    'expiring token.expiring data_access_ends_within_7_days',
    'expiring token.expiring expires_within_1_day',
    'expiring token.expired data_access_ended',
    'expired token.reauth_required data_access_ended',
    'reauth_required token.expiring expires_within_1_day'
  ])
})

await t.test('the earlier end of a token decides', async (t) => {
  for (const [expires_at, data_access_ends_at, left, passed] of [
    [null, null, Infinity, 'date_passed'],
    [inTime(5), null, 5, 'date_passed'],
    [null, inTime(5), 5, 'data_access_ended'],
    [inTime(5), inTime(6), 5, 'date_passed'],
    [inTime(6), inTime(-5), -5, 'data_access_ended']
  ] as const) t.match(endOf({ expires_at, data_access_ends_at }, NOW), { left, passed })
})

await t.test('a check is a deadline if a warning or the end comes within a day after it', async (t) => {
  for (const [left, dataAccess, isDeadline] of [
    [null, null, false],
    [90 * DAY, null, false],
    [16 * DAY + 1, null, false],
    [16 * DAY, null, true],
    [15 * DAY, null, true],
    [14 * DAY, null, false],
    [9 * DAY + 1, null, false],
    [9 * DAY, null, true],
    [3 * DAY, null, true],
    [3 * DAY + 1, null, false],
    [HOUR, null, true],
    [90 * DAY, 16 * DAY, true],
    [-DAY, null, false]
  ] as const) {
    t.equal(nextState(bounded(left, dataAccess), previousState(), NOW, DAY).is_deadline, isDeadline, `${left} ms left`)
  }
  // A backlog is shorter than a day, whatever the interval is.
  const interval = 30 * DAY
  t.equal(nextState(bounded(90 * DAY, null), previousState(), NOW, interval).is_deadline, false)
  t.equal(nextState(bounded(45 * DAY, null), previousState(), NOW, interval).is_deadline, true)
  t.equal(nextState(bounded(45 * DAY + 1, null), previousState(), NOW, interval).is_deadline, false)
  t.equal(nextState(invalid(), previousState({ expires_at: inTime(15 * DAY) }), NOW, DAY).is_deadline, true)
})
