import t from '../../run/tap.js'
import { LATEST_MS, simulateMonth } from './month.js'
import { LEVELS } from './watches.js'

t.setTimeout(600_000)

/** The checks of a token that fail in an hour without Meta, 5 minutes apart. */
const MAX_FAILED = 12

await t.test('in a month of a million tokens every warning is told once, and within 5 minutes', async (t) => {
  const { told, expected, size, latest, late, early, checksOf, isPlain } = simulateMonth()
  const wrong: string[] = []
  let warnings = 0
  const checks = { least: Infinity, most: 0 }
  for (let id = 0; id < size; id++) {
    for (const level of LEVELS.keys()) {
      const count = told[id * LEVELS.length + level] ?? 0
      const due = expected(id, level)
      warnings += count
      if (due === null ? count > 1 : count !== due) wrong.push(`token ${id}, level ${level}: ${count}, not ${due}`)
    }
    if (!isPlain(id)) continue
    checks.least = Math.min(checks.least, checksOf(id))
    checks.most = Math.max(checks.most, checksOf(id))
  }
  t.comment(`${warnings} warnings, the latest after ${latest} ms; checks of a token: ${JSON.stringify(checks)}`)
  t.same(wrong.slice(0, 10), [])
  t.ok(warnings > 300_000, `${warnings} warnings`)
  t.equal(early, 0)
  t.equal(late, 0)
  t.ok(latest <= LATEST_MS, `the latest after ${latest} ms`)
  // The import delays the plain checks of one day, and the outage adds failed ones.
  t.ok(checks.least >= 28 && checks.most <= 30 + MAX_FAILED, `checks of a token: ${JSON.stringify(checks)}`)
})
