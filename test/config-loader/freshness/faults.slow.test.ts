import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { stallingProxy } from '../../fixtures/proxies/stalling-proxy.js'
import { cached, cold, hotTenants, late, neverRevoked, nobody, strangers } from './outage-questions.js'
import { ids } from './workload.js'
import { now, type Observation } from './history.js'
import { createWriters, type Change } from './writers.js'
import { ownPostgres } from '../../fixtures/postgres/own-postgres.js'
import { verifyEachRow } from '../../fixtures/verified-rows.js'
import { readingInstance } from './reading.js'
import { JWT_SECRET, newKey, query, until } from '../../helper.js'

/** The maximum duration of a call in an outage. */
const LIMIT_MS = 5000
/** The maximum mean duration of a refusal once the outage is detected. */
const REFUSAL_MS = 50
/** The maximum age of an answer after the database falls silent, with the delays of a busy machine. */
const BOUND_MS = 6500
const POOL_MAX = 10
const UNAVAILABLE = '!DATABASE_UNAVAILABLE'

t.setTimeout(300_000)

const postgres = await ownPostgres(t)
const proxy = await stallingProxy(t, postgres.url)
const keyRing = `k1:${newKey()}`
const instance = await readingInstance(t, {
  DATABASE_URL: proxy.url,
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
const isRefused = ({ answer }: Observation) => answer === UNAVAILABLE
const answersTo = (questions: string[], observations: Observation[]) =>
  observations.filter(({ question }) => questions.includes(question))

/** The latest answer to each question, all asked after this call began. */
async function latestAnswers (questions: string[]): Promise<Observation[]> {
  const since = now()
  let latest: Observation[] = []
  await until(async () => {
    latest = answersTo(questions, await instance.latest())
    return latest.length === questions.length && latest.every((observation) => observation.asked > since)
  })
  return latest
}

/** Whether each question is answered with the rows stored now. */
async function isCurrent (questions = cached): Promise<boolean> {
  const { ages } = writers.history.evaluate(await latestAnswers(questions))
  return ages.length === questions.length && ages.every((age) => age === 0)
}

const isUp = async () => (await instance.stats())?.channel === 'up'
const areAllCurrent = async () => await isCurrent([...cached, ...nobody])

/** Asserts that no answer was ever wrong, and that no fresh answer is too old. */
function assertRight (t: Test, observations: Observation[]): void {
  const answers = observations.filter((observation) => !isRefused(observation))
  const { ages, wrong } = writers.history.evaluate(answers.filter((observation) => !isStale(observation)))
  const { wrong: wrongStale } = writers.history.evaluate(
    answers.filter(isStale).map((observation) => ({ ...observation, answer: observation.answer.slice(1) }))
  )
  const oldest = Math.max(...ages)
  t.comment(
    `${answers.length} answers, ${answers.filter(isStale).length} marked as stale; ` +
      `of the others the oldest was ${Math.round(oldest)} ms old`
  )
  t.same([...wrong, ...wrongStale].slice(0, 3), [], 'no answer has wrong credentials')
  t.ok(oldest < BOUND_MS, `no answer that is not marked as stale is older than ${BOUND_MS} ms`)
}

/** Waits for full recovery without a restart: right answers, and no more connections than the limit. */
async function untilRecovered (): Promise<void> {
  await until(areAllCurrent)
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

/** Tests one outage while cached, uncached and missing tenants are requested. */
async function testOutage (
  t: Test,
  begin: () => unknown,
  end: () => unknown,
  meanwhile = async () => {}
): Promise<void> {
  await write(...hotTenants.map((tenant) => row(tenant)))
  await instance.read([...cached, ...nobody], 10, 2)
  await until(areAllCurrent)
  const began = now()
  await begin()
  await instance.ask(cold, 2)
  await until(async () => (await latestAnswers(cached)).every(isStale))
  await until(async () => (await latestAnswers(nobody)).every(isRefused))
  const detectedAt = now()
  for (const question of cold) await instance.ask([question])
  await meanwhile()
  const ended = now()
  await end()
  await untilRecovered()
  const observations = await instance.stop()

  assertRight(t, observations)
  t.same(answersTo(neverRevoked, observations).filter(isRefused).slice(0, 3), [], 'cached tenants are served')
  const during = observations.filter(({ asked, answered }) => asked > began && answered < ended)
  const slowest = Math.max(...during.map(({ asked, answered }) => answered - asked))
  t.ok(slowest < LIMIT_MS, `each answer takes less than ${LIMIT_MS} ms: ${Math.round(slowest)}`)
  const uncached = answersTo(cold, during)
  t.ok(uncached.length >= cold.length)
  t.same(uncached.filter((observation) => !isRefused(observation)).slice(0, 3), [], 'uncached tenants are refused')
  t.same(
    answersTo(nobody, during).filter(
      (observation) => observation.asked > detectedAt && !isRefused(observation)
    ).slice(0, 3),
    [],
    'no tenant gets the values of .env'
  )
  const refusals = during.filter((observation) => observation.asked > detectedAt && isRefused(observation)).map(
    ({ asked, answered }) => answered - asked
  )
  const mean = refusals.reduce((sum, ms) => sum + ms, 0) / refusals.length
  t.ok(mean < REFUSAL_MS, `a refusal takes less than ${REFUSAL_MS} ms on average: ${mean.toFixed(1)}`)
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
    async (t) => { await testOutage(t, async () => { await postgres.stop(how) }, postgres.start) }
  )
}

await t.test('the service recovers from a freeze', async (t) => { await testOutage(t, postgres.freeze, postgres.thaw) })

await t.test(
  'the service recovers from a cut connection, with tenants revoked meanwhile',
  async (t) => { await testOutage(t, proxy.cut, proxy.mend, revoke) }
)

await t.test(
  'the service recovers from a dead connection, with tenants revoked meanwhile',
  async (t) => { await testOutage(t, proxy.stall, proxy.mend, revoke) }
)

await t.test(
  'the service recovers from a database slower than its timeouts',
  async (t) => { await testOutage(t, () => { proxy.slowDown(3000) }, proxy.mend, revoke) }
)

await t.test('cached tenants are served while the connection is cut repeatedly', async (t) => {
  await write(...hotTenants.map((tenant) => row(tenant)))
  await instance.read(cached, 10, 2)
  for (let times = 0; times < 5; times++) {
    await until(isUp)
    await until(async () => await isCurrent())
    proxy.cut()
    await until(async () => (await latestAnswers(cached)).every(isStale))
    proxy.mend()
  }
  await until(async () => await isCurrent())
  const observations = await instance.stop()
  assertRight(t, observations)
  t.same(observations.filter(isRefused).slice(0, 3), [], 'cached tenants are served')
})

await t.test('a slow database is no outage', async (t) => {
  await write(...hotTenants.map((tenant) => row(tenant)))
  await instance.read([...cached, ...nobody], 10, 2)
  await until(areAllCurrent)
  proxy.slowDown(50)
  await revoke()
  await instance.ask(late)
  await until(areAllCurrent)
  proxy.mend()
  await untilRecovered()
  const observations = await instance.stop()
  assertRight(t, observations)
  t.same(
    observations.filter((observation) => isRefused(observation) || isStale(observation)).slice(0, 3),
    [],
    'each answer is fresh'
  )
})

await t.test('the service recovers from repeated restarts of the database under load', async (t) => {
  await instance.read([...cached, ...nobody], 20, 2)
  await until(areAllCurrent)
  const ending = new AbortController()
  let failed = 0
  const writing = Promise.all(hotTenants.map(async (tenant) => {
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
  await write(...hotTenants.map((tenant) => row(tenant)))
  await untilRecovered()
  t.ok(failed > 0)
  assertRight(t, await instance.stop())
})

await t.test('the instance exits with code 0', async (t) => {
  t.equal(await instance.close(), 0)
})
