import t from '../../run/tap.js'
import type { NumberStatus } from '../../../src/schemas/statuses.js'
import { nextNumber, numberReason, type NumberFacts } from '../../../src/token-watch/number-state.js'

const facts = (status: string | null, quality_rating: string | null = 'GREEN'): NumberFacts =>
  ({ status, quality_rating })

await t.test('the state of a number depends on what Meta tells, and on whether it was registered', async (t) => {
  const table: Array<[NumberFacts | null, NumberStatus, string | null]> = [
    [facts('CONNECTED'), 'ok', null],
    [facts('CONNECTED', null), 'ok', null],
    [facts('CONNECTED', 'YELLOW'), 'ok', null],
    [facts('CONNECTED', 'RED'), 'low_quality', 'RED'],
    [facts('FLAGGED'), 'low_quality', 'FLAGGED'],
    [facts('FLAGGED', 'x'.repeat(1000)), 'low_quality', 'FLAGGED'],
    [facts('RESTRICTED', 'RED'), 'restricted', 'RESTRICTED'],
    [facts('BANNED'), 'restricted', 'BANNED'],
    [facts('RATE_LIMITED'), 'restricted', 'RATE_LIMITED'],
    [facts('MIGRATED'), 'missing', 'MIGRATED'],
    [facts('DELETED'), 'missing', 'DELETED'],
    [null, 'missing', null],
    [facts('NEW_IN_2030'), 'unknown', null],
    [facts(null, null), 'unknown', null]
  ]
  for (const before of ['unknown', 'pending', 'ok', 'low_quality', 'restricted', 'missing'] as const) {
    for (const [told, status, reason] of table) {
      const next = nextNumber(told, { number_status: before, reported: null })
      t.equal(next.number_status, status, `${told?.status} after ${before}`)
      const isTrouble = ['low_quality', 'restricted', 'missing'].includes(status)
      t.same(next.event, isTrouble ? { type: `number.${status}`, from: before, reason } : null)
      t.equal(next.reported, isTrouble ? status : null)
    }
    for (const status of ['PENDING', 'UNVERIFIED', 'DISCONNECTED']) {
      const wasRegistered = ['ok', 'low_quality', 'restricted'].includes(before)
      t.match(
        nextNumber(facts(status), { number_status: before, reported: null }),
        wasRegistered
          ? { number_status: 'restricted', event: { type: 'number.restricted', from: before, reason: status } }
          : { number_status: 'pending', reported: null, event: null }
      )
    }
  }
})

await t.test('a trouble is reported once, and so is its end', async (t) => {
  let previous = { number_status: 'unknown' as NumberStatus, reported: null as NumberStatus | null }
  const events = [
    facts('PENDING'), facts('CONNECTED'), facts('CONNECTED', 'RED'), facts('CONNECTED', 'RED'), facts('BANNED'), null,
    null, facts('NEW_IN_2030'), null, facts('CONNECTED'), facts('CONNECTED'), facts('BANNED')
  ].map((told) => {
    const { event, ...next } = nextNumber(told, previous)
    previous = next
    return event && `${event.from} ${event.type} ${event.reason}`
  })
  t.same(events, [
    null, null, 'ok number.low_quality RED', null, 'low_quality number.restricted BANNED',
    'restricted number.missing null', null, null, null, 'missing number.recovered null', null,
    'ok number.restricted BANNED'
  ])
})

await t.test('the reason is the word of Meta that decides the state', async (t) => {
  for (const [number_status, status, quality_rating, reason] of [
    ['ok', 'CONNECTED', 'GREEN', null],
    ['pending', 'UNVERIFIED', null, 'UNVERIFIED'],
    ['restricted', 'DISCONNECTED', null, 'DISCONNECTED'],
    ['low_quality', 'CONNECTED', 'RED', 'RED'],
    ['low_quality', 'FLAGGED', 'YELLOW', 'FLAGGED'],
    ['missing', 'MIGRATED', null, 'MIGRATED'],
    ['missing', 'CONNECTED', 'GREEN', null],
    ['missing', null, null, null],
    ['none', null, null, null],
    ['unknown', null, null, null]
  ] as const) t.equal(numberReason({ number_status, status, quality_rating }), reason, `${number_status} ${status}`)
})
