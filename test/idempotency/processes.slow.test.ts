import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { stallingProxy } from '../fixtures/proxies/stalling-proxy.js'
import { serverProcess, signed, type ServerProcess } from '../fixtures/server-process.js'
import { connect, createDatabase, JWT_SECRET, newKey, queries, until } from '../helper.js'
import { NEVER_MS, serviceProcesses } from '../onboarding/processes/service-processes.js'
import { full } from '../routes/client.js'

t.setTimeout(180_000)

const IN_PROGRESS = '409 IDEMPOTENCY_IN_PROGRESS'
/** The lease of a dead process, and a second for a busy machine. */
const LEASE_MS = 16_000

interface Reply { is: string, isReplay: boolean, body: Record<string, unknown> }

/** Sends a POST with an idempotency key; null if the process died before its answer. */
async function send (
  { origin }: ServerProcess, tenant: string, key: string, path: string, body: object
): Promise<Reply | null> {
  const headers = {
    authorization: `Bearer ${signed({ tenant_id: tenant }, JWT_SECRET)}`,
    'content-type': 'application/json',
    'idempotency-key': key
  }
  const request = { method: 'POST', headers, body: JSON.stringify(body) }
  const response = await fetch(`${origin}/api/v1/tenant/${path}`, request).catch(() => null)
  if (response === null) return null
  const json = JSON.parse(await response.text())
  const isReplay = response.headers.get('idempotent-replayed') === 'true'
  return { is: [response.status, json.code].join(' ').trim(), isReplay, body: json }
}

/** Sends a request again and again until it is not in progress any more; asserts that it was at first. */
async function untilExecuted (t: Test, ...request: Parameters<typeof send>): Promise<Reply | null> {
  const began = performance.now()
  let answer = await send(...request)
  t.equal(answer?.is, IN_PROGRESS, 'the lease of the dead process goes on')
  let waitedMs = 0
  while (answer?.is === IN_PROGRESS) {
    await delay(200)
    waitedMs = performance.now() - began
    answer = await send(...request)
  }
  t.ok(waitedMs < LEASE_MS, `until its end, ${waitedMs} ms`)
  return answer
}

const url = await createDatabase(t)
const sql = queries(t, url)
const settings = { JWT_SECRET, ENCRYPTION_KEYS: `k1:${newKey()}`, LOG_LEVEL: 'info' }
const other = await serverProcess(t, { ...settings, DATABASE_URL: url })

/** Makes a trigger wait for an advisory lock, which the returned connection has. */
async function waitAt (trigger: string) {
  const lockHolder = await connect(t, url)
  await lockHolder.query('select pg_advisory_lock(1)')
  await sql(`create or replace function wait() returns trigger language plpgsql as $$ begin
    perform pg_advisory_xact_lock(1); return new; end $$; ${trigger} execute function wait()`)
  return lockHolder
}
const isWaiting = async () => (await sql(
  "select from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"
)).length > 0

await t.test('a create that was killed before its commit is executed again', async (t) => {
  const service = await serverProcess(t, { ...settings, DATABASE_URL: url })
  const lockHolder = await waitAt('create trigger wait before update of answer on idempotency_keys for each row')
  const key = randomUUID()
  const answer = send(service, 'killed-before', key, 'config', full)
  await until(isWaiting)
  await service.end('SIGKILL')
  t.equal(await answer, null)
  await lockHolder.query('select pg_advisory_unlock(1)')
  // Waits for the end of the transaction of the dead process.
  await sql('drop function wait cascade')
  t.same(await sql("select from tenant_configs where tenant_id = 'killed-before'"), [])

  const executed = await untilExecuted(t, other, 'killed-before', key, 'config', full)
  t.match(executed, { is: '201', isReplay: false })
  t.match(await send(other, 'killed-before', key, 'config', full), { is: '201', isReplay: true, body: executed?.body })
})

await t.test('a create that was killed between its commit and its answer is found out', async (t) => {
  const proxy = await stallingProxy(t, url)
  const service = await serverProcess(t, { ...settings, DATABASE_URL: proxy.url })
  const lockHolder = await waitAt('create constraint trigger wait after insert on tenant_configs deferrable ' +
    'initially deferred for each row')
  const key = randomUUID()
  const answer = send(service, 'killed-after', key, 'config', full)
  await until(isWaiting)
  proxy.stall()
  await lockHolder.query('select pg_advisory_unlock(1)')
  const row = async () => await sql("select id from tenant_configs where tenant_id = 'killed-after'")
  await until(async () => (await row()).length === 1)
  await service.end('SIGKILL')
  t.equal(await answer, null)

  t.match(await send(other, 'killed-after', key, 'config', full), {
    is: '201', isReplay: true, body: { ...(await row())[0], tenant_id: 'killed-after', access_token: '****0001' }
  })
  t.match(await send(other, 'killed-after', key, 'config', {}), { is: '400 VALIDATION_FAILED' })
  t.match(await send(other, 'killed-after', key, 'config', { waba_id: '1' }), { is: '422 IDEMPOTENCY_KEY_REUSED' })
})

await t.test('an onboarding that was killed goes on once its lease has ended', async (t) => {
  const { meta, start, customer, full, leaks } = await serviceProcesses(t)
  const [first, second] = [await start(), await start()]
  const login = await customer(first)
  const request = [login.tenant, randomUUID(), 'onboard/whatsapp-client', login.body] as const
  meta.fail('phone_numbers', { latency_ms: NEVER_MS })
  const answer = send(first, ...request)
  await until(() => meta.requests.some(({ route }) => route === 'phone_numbers'))
  await first.end('SIGKILL')
  t.equal(await answer, null)

  const executed = await untilExecuted(t, second, ...request)
  t.match(executed, { is: '200', isReplay: false, body: { onboarding_completed: true } })
  t.match(await send(second, ...request), { is: '200', isReplay: true, body: executed?.body })
  t.equal(meta.requests.filter(({ route }) => route === 'access_token').length, 1)
  t.match(await full(second, login), { onboarding_completed: true, phone_number_id: login.phoneId })
  t.same(leaks(), [])
})
