import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { line } from '../../fixtures/line.js'
import { ids } from './workload.js'
import { now, type Observation } from './history.js'
import { createWriters, type Change } from './writers.js'
import { ownPostgres } from '../../fixtures/own-postgres.js'
import { verifyEachRow } from '../../fixtures/verified-rows.js'
import { readingInstance } from './reading.js'
import { JWT_SECRET, newKey, query, until } from '../../helper.js'

const LIMIT_MS = 5000
const KNOWN_MS = 50
/** The maximum age of an answer after the database falls silent, with the delays of a busy machine. */
const BOUND_MS = 6500
const POOL_MAX = 10
const AWAY = '!DATABASE_UNAVAILABLE'

t.setTimeout(300_000)

const postgres = await ownPostgres(t)
const wire = await line(t, postgres.url)
const keyRing = `k1:${newKey()}`
const instance = await readingInstance(t, {
  DATABASE_URL: wire.url,
  DATABASE_POOL_MAX: String(POOL_MAX),
  JWT_SECRET,
  ENCRYPTION_KEYS: keyRing,
  WHATSAPP_TOKEN: 'the token of .env',
  WHATSAPP_PHONE_ID: 'the number of .env',
  WHATSAPP_WABA_ID: 'the account of .env',
  FB_APP_ID: 'the app of .env',
  FB_APP_SECRET: 'the secret of .env',
  VERIFY_TOKEN: 'the verify token of .env',
  CALLBACK_URL: 'https://env.example/',
  REDIRECT_URL: 'https://env.example/'
})
await verifyEachRow(postgres.url)
const writers = createWriters({ url: postgres.url, origin: instance.origin, jwtSecret: JWT_SECRET, keyRing })
const hot = ids('hot', 20)
const strangers = ids('stranger', 50)
/** Questions about tenants with and without a row, first asked in an outage. */
const cold = [
  ...ids('tenant:cold', 50), ...ids('number:n-cold', 50), ...ids('account:a-cold', 50),
  ...strangers.map((id) => `tenant:${id}`)
]
/** Questions that are not asked in an outage. */
const late = ids('tenant:late', 50)
const asked = hot.flatMap((id) => [`tenant:${id}`, `number:n-${id}`, `account:a-${id}`])
/**
 * Questions about tenants that are never revoked. A missing row is not served again when a late failure reports another
 * outage.
 */
const kept = asked.filter((question) => !/hot[012]$/.test(question))
const nobody = ['tenant:nobody', 'number:nobody', 'account:nobody']
let version = 0
const row = (tenant: string, isActive = true) => [
  tenant,
  { version: ++version, isActive, number: `n-${tenant}`, account: `a-${tenant}` }
] as const

/** Writes on a connection outside the instance. */
async function write (...changes: Change[]): Promise<void> {
  const sql = await writers.connect(t)
  await writers.bySql(sql, ...changes).finally(async () => { await sql.end() })
}

const isStale = ({ answer }: Observation) => answer.startsWith('~')
const isAway = ({ answer }: Observation) => answer === AWAY
const of = (questions: string[]) =>
  (observations: Observation[]) => observations.filter(({ question }) => questions.includes(question))

/** The latest answer to each question, all asked after this call began. */
async function current (questions: string[]): Promise<Observation[]> {
  const since = now()
  let latest: Observation[] = []
  await until(async () => {
    latest = of(questions)(await instance.latest())
    return latest.length === questions.length && latest.every((observation) => observation.asked > since)
  })
  return latest
}

/** Whether each question is answered with the rows stored now. */
async function isRight (questions = asked): Promise<boolean> {
  const { ages } = writers.history.judge(await current(questions))
  return ages.length === questions.length && ages.every((age) => age === 0)
}

const isUp = async () => (await instance.stats())?.channel === 'up'
const isWell = async () => await isRight([...asked, ...nobody])

/** Asserts that no answer was ever wrong, and that no fresh answer is too old. */
function areRight (t: Test, observations: Observation[]): void {
  const answers = observations.filter((observation) => !isAway(observation))
  const { ages, wrong } = writers.history.judge(answers.filter((observation) => !isStale(observation)))
  const { wrong: wrongStale } = writers.history.judge(
    answers.filter(isStale).map((observation) => ({ ...observation, answer: observation.answer.slice(1) }))
  )
  const oldest = Math.max(...ages)
  t.comment(
    `${answers.length} answers, ${answers.filter(isStale).length} marked as stale; of the others the oldest was ${Math.round(oldest)} ms old`
  )
  t.same([...wrong, ...wrongStale].slice(0, 3), [], 'no wrong credentials')
  t.ok(oldest < BOUND_MS, `none that claims to be fresh is older than ${BOUND_MS} ms`)
}

/** Waits for full recovery without a restart: right answers, and no more connections than the limit. */
async function hasRecovered (): Promise<void> {
  await until(isWell)
  await until(isUp)
  await instance.ask(late)
  await until(async () => {
    const connections = await query(
      postgres.url,
      "select from pg_stat_activity where application_name like 'whatsapp-tenant-config%'"
    )
    return connections.length <= POOL_MAX + 1
  })
}

/** Executes one outage while cached, uncached and missing tenants are requested. */
async function outage (t: Test, begin: () => unknown, end: () => unknown, meanwhile = async () => {}): Promise<void> {
  await write(...hot.map((tenant) => row(tenant)))
  await instance.read([...asked, ...nobody], 10, 2)
  await until(isWell)
  const began = now()
  await begin()
  await instance.ask(cold, 2)
  await until(async () => (await current(asked)).every(isStale))
  await until(async () => (await current(nobody)).every(isAway))
  const known = now()
  for (const question of cold) await instance.ask([question])
  await meanwhile()
  const ended = now()
  await end()
  await hasRecovered()
  const observations = await instance.stop()

  areRight(t, observations)
  t.same(of(kept)(observations).filter(isAway).slice(0, 3), [], 'who is cached is served')
  const during = observations.filter(({ asked, answered }) => asked > began && answered < ended)
  const slowest = Math.max(...during.map(({ asked, answered }) => answered - asked))
  t.ok(slowest < LIMIT_MS, `each within ${LIMIT_MS} ms: ${Math.round(slowest)}`)
  const refused = of(cold)(during)
  t.ok(refused.length >= cold.length)
  t.same(refused.filter((observation) => !isAway(observation)).slice(0, 3), [], 'who is not cached is told so')
  t.same(
    of(nobody)(during).filter((observation) => observation.asked > known && !isAway(observation)).slice(0, 3),
    [],
    'and nobody gets the values of .env'
  )
  const fast = during.filter((observation) => observation.asked > known && isAway(observation)).map(
    ({ asked, answered }) => answered - asked
  )
  const mean = fast.reduce((sum, ms) => sum + ms, 0) / fast.length
  t.ok(mean < KNOWN_MS, `once it is known within ${KNOWN_MS} ms on average: ${mean.toFixed(1)}`)
}

/** Deletes, changes and deactivates tenants in the outage; the answers after it must show that. */
const revoke = async () => { await write(['hot0', null], row('hot1'), row('hot2', false)) }

await write(
  ...['nobody', ...strangers, ...ids('late', 50)].map((tenant) => [tenant, null] as const),
  ...ids('cold', 50).map((tenant) => row(tenant))
)

for (const how of ['fast', 'immediate', 'killed'] as const) {
  await t.test(
    `the service recovers from a stopped database (${how})`,
    async (t) => { await outage(t, async () => { await postgres.stop(how) }, postgres.start) }
  )
}

await t.test('the service recovers from a freeze', async (t) => { await outage(t, postgres.freeze, postgres.thaw) })

await t.test(
  'the service recovers from a cut connection, with tenants revoked meanwhile',
  async (t) => { await outage(t, wire.cut, wire.mend, revoke) }
)

await t.test(
  'the service recovers from a dead connection, with tenants revoked meanwhile',
  async (t) => { await outage(t, wire.die, wire.mend, revoke) }
)

await t.test(
  'the service recovers from a database slower than its timeouts',
  async (t) => { await outage(t, () => { wire.slowDown(3000) }, wire.mend, revoke) }
)

await t.test('cached tenants are served while the connection is cut repeatedly', async (t) => {
  await write(...hot.map((tenant) => row(tenant)))
  await instance.read(asked, 10, 2)
  for (let times = 0; times < 5; times++) {
    await until(isUp)
    await until(async () => await isRight())
    wire.cut()
    await until(async () => (await current(asked)).every(isStale))
    wire.mend()
  }
  await until(async () => await isRight())
  const observations = await instance.stop()
  areRight(t, observations)
  t.same(observations.filter(isAway).slice(0, 3), [], 'who is cached is served')
})

await t.test('a slow database is no outage', async (t) => {
  await write(...hot.map((tenant) => row(tenant)))
  await instance.read([...asked, ...nobody], 10, 2)
  await until(isWell)
  wire.slowDown(50)
  await revoke()
  await instance.ask(late)
  await until(isWell)
  wire.mend()
  await hasRecovered()
  const observations = await instance.stop()
  areRight(t, observations)
  t.same(
    observations.filter((observation) => isAway(observation) || isStale(observation)).slice(0, 3),
    [],
    'all are served as ever'
  )
})

await t.test('the service recovers from repeated restarts of the database under load', async (t) => {
  await instance.read([...asked, ...nobody], 20, 2)
  await until(isWell)
  const ending = new AbortController()
  let failed = 0
  const writing = Promise.all(hot.map(async (tenant) => {
    while (!ending.signal.aborted) {
      await write(row(tenant)).catch(() => { failed++ })
      await delay(50)
    }
  }))
  for (const how of ['fast', 'immediate', 'killed'] as const) {
    await delay(500)
    await postgres.stop(how)
    await postgres.start()
  }
  ending.abort()
  await writing
  await write(...hot.map((tenant) => row(tenant)))
  await hasRecovered()
  t.ok(failed > 0)
  areRight(t, await instance.stop())
})

await t.test('the instance exits with code 0', async (t) => {
  t.equal(await instance.close(), 0)
})
