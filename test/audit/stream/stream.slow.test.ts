import t from '../../run/tap.js'
import { createStreamPost } from '../../../src/audit/stream/send.js'
import type { StreamedRecord } from '../../../src/audit/stream/stream.js'
import { receiver, status } from '../../events/event-receiver.js'
import { serverProcess, signed } from '../../fixtures/server-process.js'
import { baseEnv, createDatabase, JWT_SECRET, query, until } from '../../helper.js'
import { config } from '../../routes/client.js'

t.setTimeout(120_000)

const databaseUrl = await createDatabase(t)
const { ENCRYPTION_KEYS } = baseEnv
const headers = { authorization: `Bearer ${signed({ tenant_id: 'acme' }, JWT_SECRET)}` }

/** Starts a service, and reads the secrets of `acme` so many times. */
async function serve (env: Record<string, string>, reads: number) {
  const server = await serverProcess(t, { DATABASE_URL: databaseUrl, JWT_SECRET, ENCRYPTION_KEYS, ...env })
  for (let i = 0; i < reads; i++) await fetch(`${server.origin}${config}/full`, { headers })
  return server
}

const seqsIn = (received: Array<{ body: Buffer }>) => received.flatMap(({ body }) => {
  const records: StreamedRecord[] = JSON.parse(body.toString()).records
  return records.map(({ seq }) => seq)
})

await t.test('after SIGKILL of the process that sends, another one sends what nobody took', async (t) => {
  const { url, received, answer } = await receiver(t, () => {})
  const env = { AUDIT_STREAM: url, AUDIT_STREAM_SECRET: 'what-signs-the-records' }
  const first = await serve(env, 3)
  await until(() => received.length > 0)
  await first.end('SIGKILL')
  received.length = 0
  answer(status(204))
  const second = await serve(env, 2)
  t.strictSame(received, [], 'the lease of the dead process is not over')
  await until(() => new Set(seqsIn(received)).size === 5, 40_000)
  t.strictSame(seqsIn(received), [1, 2, 3, 4, 5])
  await until(async () => (await query(databaseUrl, 'select from audit_outbox')).length === 0)
  t.equal(await second.end('SIGTERM'), 0)
})

await t.test('a receiver that hangs, or is away, is one that fails', async (t) => {
  const { url } = await receiver(t, () => {})
  const closing = new AbortController().signal
  const post = (target: string) => createStreamPost({
    url: target, secrets: 'what-signs-the-records', closing, outbound: { fetchWith: () => undefined }
  })
  t.equal(await post(url)([], '1-1'), 'ETIMEDOUT')
  t.equal(await post('http://127.0.0.1:9/')([], '1-1'), 'ECONNREFUSED')
})

await t.test('AUDIT_STREAM=stdout writes lines beside the log, at any level', async (t) => {
  const server = await serve({ AUDIT_STREAM: 'stdout', LOG_LEVEL: 'info' }, 0)
  await fetch(`${server.origin}${config}/full`, { headers })
  const lines = () => server.stdout().split('\n')
    .flatMap((line) => line.startsWith('{"audit":') ? [JSON.parse(line)] : [])
  await until(() => lines().length > 0)
  t.match(lines().at(-1), { audit: { tenant_id: 'acme', action: 'config.read_full', code: 'CONFIG_NOT_FOUND' } })
  t.equal(await server.end('SIGTERM'), 0)
})
