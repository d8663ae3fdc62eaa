import t from '../run/tap.js'
import { startWithMetaFault } from '../fixtures/fault-injection.js'
import { serverProcess } from '../fixtures/server-process.js'
import { baseEnv, buildTestApp, until as untilTrue } from '../helper.js'
import { resumptionService } from './resumption-service.js'

// The child process is slow on a busy machine.
t.setTimeout(120_000)

const service = await resumptionService(t)
const { meta, sql, events, stateOf, asked, suspended, checkAllDue } = service
const { JWT_SECRET, ENCRYPTION_KEYS } = baseEnv
const makeDue = async (id: string) => {
  await sql('update account_states set resume_at = now() where tenant_id = $1', [id])
}

await t.test('a check of a killed process is repeated when its claim ends', async (t) => {
  const { id } = await suspended()
  await makeDue(id)
  meta.fail('debug_token', { latency_ms: 60_000 })
  const server = await serverProcess(t, { ...service.env, JWT_SECRET, ENCRYPTION_KEYS, GRAPH_TIMEOUT_MS: '60000' })
  await untilTrue(() => asked().length === 1)
  await server.end('SIGKILL')
  await checkAllDue()
  t.equal(asked().length, 1, 'a claimed tenant is not checked')
  const { wait } = await stateOf(id)
  t.ok(Number(wait) > 0 && Number(wait) < 2 * 60_000 + 30_000)

  await makeDue(id)
  await checkAllDue()
  t.match(await stateOf(id), { is_active: true })
  t.equal(events.filter(({ type }) => type === 'account.resumed').length, 1)
})

await t.test('a service closes without waiting for Meta, and leaves the check due', async (t) => {
  const { id } = await suspended()
  await makeDue(id)
  const { answer } = await startWithMetaFault(meta, 'debug_token', { latency_ms: 60_000 }, async () =>
    await buildTestApp(t, { ...service.env, GRAPH_TIMEOUT_MS: 60_000 }))
  const { app } = await answer
  const began = performance.now()
  await app.close()
  t.ok(performance.now() - began < 3000)
  t.ok(Number((await stateOf(id))['wait']) <= 0)
  await checkAllDue()
  t.match(await stateOf(id), { is_active: true })
})
