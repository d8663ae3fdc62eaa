import t from 'tap'
import { DatabaseUnavailable } from '../src/errors.js'
import { createTurns, isLate, mayAsk } from '../src/patience.js'
import { buildTestApp, connect, until } from './helper.js'

const unavailable = { code: 'DATABASE_UNAVAILABLE' }

await t.test('so many at a time, in the order they came', async (t) => {
  const inTurn = createTurns(2)
  const begun: number[] = []
  const ends: Array<() => void> = []
  const all = [0, 1, 2, 3].map(async (n) => await inTurn(async () => {
    begun.push(n)
    await new Promise<void>((resolve) => ends.push(resolve))
    return n
  }))
  for (const sees of [[0, 1], [0, 1, 2], [0, 1, 2, 3]]) {
    await until(() => ends.length === sees.length)
    t.strictSame(begun, sees)
    ends[sees.length - 2]?.()
  }
  ends.at(-1)?.()
  t.strictSame(await Promise.all(all), [0, 1, 2, 3])
})

await t.test('who has waited long is turned away if the last read failed for want of the database, and only then', async (t) => {
  for (const [err, isTurnedAway] of [[new DatabaseUnavailable(), true], [new Error('another fault'), false], [undefined, false]] as const) {
    const inTurn = createTurns(1)
    const since = performance.now()
    const first = inTurn(async () => {
      await until(() => isLate(since))
      if (err !== undefined) throw err
    })
    const second = inTurn(async () => 'read')
    await (err === undefined ? first : t.rejects(first, err))
    await (isTurnedAway ? t.rejects(second, unavailable) : second)
    t.equal(await inTurn(async () => 'read'), 'read', 'who comes now has not waited')
  }
})

await t.test('nothing is begun for whom asked too long ago, nor while the database is away', async (t) => {
  const since = performance.now()
  mayAsk(since, { isKnown: false })
  t.throws(() => mayAsk(since, { isKnown: true }), unavailable)
  await until(() => isLate(since))
  t.ok(performance.now() - since >= 1500)
  t.throws(() => mayAsk(since, { isKnown: false }), unavailable)
})

await t.test('a table that stays locked keeps nobody waiting longer than 5 seconds, however many wait', async (t) => {
  const { app: { configLoader }, databaseUrl } = await buildTestApp(t)
  const holder = await connect(t, databaseUrl)
  await holder.query('begin; lock table tenant_configs in access exclusive mode')
  const began = performance.now()
  await Promise.all(Array.from({ length: 100 }, async (_, i) => { await t.rejects(configLoader.forTenant(`tenant ${i}`), unavailable) }))
  t.ok(performance.now() - began < 5000, `${Math.round(performance.now() - began)} ms`)
  await holder.query('rollback')
  t.equal((await configLoader.forTenant('tenant 0')).hasTenantConfig(), false)
})
