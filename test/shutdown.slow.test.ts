import type { Test } from 'tap'
import t from './run/tap.js'
import { createDatabase, JWT_SECRET, newKey, until } from './helper.js'
import { serverProcess, signed } from './fixtures/server-process.js'
import { config } from './routes/client.js'

const DELAY_MS = 3000
const ENCRYPTION_KEYS = `t1:${newKey()}`
const databaseUrl = await createDatabase(t)
const headers = { authorization: `Bearer ${signed({ tenant_id: 'acme' }, JWT_SECRET)}` }

async function start (t: Test, settings: Record<string, string>) {
  const server = await serverProcess(t, { DATABASE_URL: databaseUrl, JWT_SECRET, ENCRYPTION_KEYS, ...settings })
  const get = async (path: string) => {
    const response = await fetch(server.origin + path, { headers })
    const { code, status }: { code?: string, status: unknown } = JSON.parse(await response.text())
    return { is: `${response.status} ${code ?? String(status)}`, retryAfter: response.headers.get('retry-after') }
  }
  return { server, get }
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  await t.test(`after ${signal} the service is not ready at once, and serves until the delay is over`, async (t) => {
    const { server, get } = await start(t, { SHUTDOWN_DELAY_MS: String(DELAY_MS) })
    t.match(await get('/health/ready'), { is: '200 ok' })
    const began = performance.now()
    const ended = server.end(signal)
    await until(async () => (await get('/health/ready')).is !== '200 ok')
    t.match(await get('/health/ready'), { is: '503 SERVICE_CLOSING', retryAfter: '5' })
    // Neither the same signal nor the other one ends the delay, or the process.
    server.child.kill('SIGINT')
    server.child.kill('SIGTERM')
    const answers = new Set<string>()
    while (performance.now() - began < DELAY_MS - 1000) {
      for (const path of [config, '/health/live']) answers.add(`${path} ${(await get(path)).is}`)
    }
    t.same([...answers], [`${config} 404 CONFIG_NOT_FOUND`, '/health/live 200 ok'])
    t.equal(await ended, 0)
    const ms = performance.now() - began
    t.ok(ms >= DELAY_MS && ms < DELAY_MS + 3000, `ended after ${ms.toFixed()} ms`)
    t.equal(server.stderr(), '')
  })
}

await t.test('without a delay an idle service ends at once', async (t) => {
  const { server } = await start(t, {})
  const began = performance.now()
  t.equal(await server.end('SIGTERM'), 0)
  t.ok(performance.now() - began < 3000)
})
