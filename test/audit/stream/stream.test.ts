import { PassThrough, Writable } from 'node:stream'
import { Webhook } from 'standardwebhooks'
import t from '../../run/tap.js'
import { createAuditStream, type StreamSend, type StreamedRecord } from '../../../src/audit/stream/stream.js'
import { createStreamLines } from '../../../src/audit/stream/send.js'
import { receiver, status } from '../../events/event-receiver.js'
import { until } from '../../helper.js'
import { config, full } from '../../routes/client.js'
import { auditService, entry } from '../audit-service.js'

const secret = 'what-signs-the-records'

/** The records of all posts, in their order. */
const recordsIn = (received: Array<{ body: Buffer }>): StreamedRecord[] =>
  received.flatMap(({ body }) => JSON.parse(body.toString()).records)
const namesOf = (records: StreamedRecord[]) => records.map(({ tenant_id: id, seq }) => `${id} ${seq}`)

await t.test('AUDIT_STREAM gets each record once, signed, with its number and the HMAC before it', async (t) => {
  const { url, received } = await receiver(t)
  const { app, as, call, admin, sql } = await auditService(t, { AUDIT_STREAM: url, AUDIT_STREAM_SECRET: secret })
  await call(as('acme', 'user-1'), 'POST', config, full)
  for (let i = 0; i < 120; i++) await app.audit.record(entry('acme'))
  await call(as('globex'), 'GET', `${config}/full`)
  await call(admin, 'GET', '/api/v1/tenant/admin/audit?limit=1')
  await until(() => recordsIn(received).length >= 123)
  await until(async () => (await sql('select from audit_outbox')).length === 0)

  const records = recordsIn(received)
  const chain = records.filter(({ tenant_id: id }) => id === 'acme')
  t.strictSame(namesOf(chain), Array.from({ length: 121 }, (_, index) => `acme ${index + 1}`))
  t.strictSame(namesOf(records.filter(({ tenant_id: id }) => id !== 'acme')).sort(), ['globex 1', 'null 1'])
  const hmacs = chain.map(({ hmac }) => hmac)
  t.strictSame(chain.map(({ previous_hmac: previous }) => previous), ['', ...hmacs.slice(0, -1)])
  t.equal(Object.keys(Object(chain[0])).sort().join(), 'action,actor,address,at,code,count,fields,hmac,outcome,' +
    'previous_hmac,request_id,role,seq,tenant_id')
  const [stored] = await sql("select hmac from audit_log where tenant_id = 'acme' and seq = 1")
  t.match(chain[0], { actor: 'user-1', action: 'config.create', fields: Object.keys(full), hmac: stored?.['hmac'] })
  for (const value of Object.values(full)) t.notOk(received.some(({ body }) => body.includes(value)), value)

  const verifier = new Webhook(Buffer.from(secret), { format: 'raw' })
  for (const { body, headers } of received) {
    const named = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]))
    t.strictSame(verifier.verify(body, named), JSON.parse(body.toString()))
  }
  t.equal(new Set(received.map(({ headers }) => headers['webhook-id'])).size, received.length)
})

await t.test('without AUDIT_STREAM nothing waits to be sent', async (t) => {
  const { app, sql } = await auditService(t)
  await app.audit.record(entry('acme'))
  t.same(await sql('select from audit_outbox'), [])
})

/** A stream of its own with this sender, and what it logged. */
async function ownStream (t: Parameters<typeof auditService>[0], send: StreamSend) {
  const service = await auditService(t)
  const { app: { database, closing } } = service
  const lines: string[] = []
  const log = {
    warn: (_fields: object, text = '') => { lines.push(text) },
    info: (text: string) => { lines.push(text) }
  }
  return {
    ...service,
    lines,
    streamer: await service.writer({ isStreamed: true }),
    /** Streams until the condition is true, as a new process whose predecessor's lease is over. */
    async run (condition: () => boolean | Promise<boolean>): Promise<void> {
      await service.sql('delete from leases')
      const stream = createAuditStream({ database, send, closing, log })
      stream.start()
      await until(condition)
      await stream.stop()
    }
  }
}

await t.test('records that the receiver refuses are sent again, later and in their order', async (t) => {
  const sent: string[][] = []
  let fault: string | null = '503'
  const { lines, run, streamer, sql } = await ownStream(t, async (records) => {
    sent.push(namesOf(records))
    return fault
  })
  await streamer.record(entry('acme'))
  await run(() => sent.length > 0)
  await streamer.record(entry('acme'))
  await run(() => {
    fault = sent.length < 3 ? '503' : null
    return sent.length > 3
  })
  t.strictSame(sent[0], ['acme 1'])
  t.strictSame(sent.at(-1), ['acme 1', 'acme 2'])
  t.strictSame(await sql('select from audit_outbox'), [])
  const failed = 'audit records could not be sent to AUDIT_STREAM; they are sent later'
  t.strictSame(lines, [failed, failed, 'AUDIT_STREAM takes records again'], 'once for each process and outage')
})

await t.test('a database that is away is an outage too', async (t) => {
  const sent: string[] = []
  const { lines, run, streamer, sql } = await ownStream(t, async (records) => {
    sent.push(...namesOf(records))
    return null
  })
  await streamer.record(entry('acme'))
  await sql('alter table audit_outbox rename to away')
  await run(async () => {
    if (lines.length > 0) await sql('alter table if exists away rename to audit_outbox')
    return sent.length > 0
  })
  t.strictSame(sent, ['acme 1'])
})

await t.test('one of several processes sends, and another one when its lease is over', async (t) => {
  const { app, sql, streamer, lines } = await ownStream(t, async () => null)
  const { database, closing, log } = app
  const sent: string[] = []
  const streams = [0, 1, 2].map((n) => createAuditStream({
    database,
    closing,
    log,
    send: async (records) => {
      sent.push(...namesOf(records).map((name) => `${n} ${name}`))
      return null
    }
  }))
  for (const { start } of streams) start()
  for (let i = 0; i < 150; i++) await streamer.record(entry(`tenant-${i % 3}`))
  await until(() => sent.length >= 150)
  const [holder = ''] = String(sent[0])
  t.equal(sent.filter((line) => line.startsWith(holder)).length, 150, 'one process sent all of them')
  await streams[Number(holder)]?.stop()
  await streamer.record(entry('tenant-0'))
  await sql("update leases set held_until = now() where name = 'audit_stream'")
  await until(() => sent.length > 150)
  t.notMatch(sent[150], new RegExp(`^${holder}`))
  t.match(sent[150], /tenant-0 51$/)
  for (const { stop } of streams) await stop()
  t.strictSame(lines, [])
})

await t.test('what the retention deleted meanwhile is not sent', async (t) => {
  const sent: string[] = []
  const { run, streamer, tamper, sql } = await ownStream(t, async (records) => {
    sent.push(...namesOf(records))
    return null
  })
  for (let i = 0; i < 3; i++) await streamer.record(entry('acme'))
  await tamper('delete from audit_log where seq < 3')
  await run(async () => (await sql('select from audit_outbox')).length === 0)
  t.strictSame(sent, ['acme 3'])
  await streamer.record(entry('acme'))
  await tamper('delete from audit_log')
  await run(async () => (await sql('select from audit_outbox')).length === 0)
  t.strictSame(sent, ['acme 3'])
})

await t.test('to stdout each record is one line of JSON', async (t) => {
  const output = new PassThrough()
  const lines = createStreamLines(output)
  const { run, streamer } = await ownStream(t, lines)
  await streamer.record(entry('acme'))
  await streamer.record(entry('acme', { actor: 'a\nb'.replace('\n', ' "b"') }))
  await run(() => output.readableLength > 0)
  const written = String(output.read()).trimEnd().split('\n').map((line) => JSON.parse(line))
  t.match(written, [{ audit: { tenant_id: 'acme', seq: 1, previous_hmac: '' } }, { audit: { seq: 2, actor: 'a "b"' } }])
})

await t.test('a closed stdout is an outage, and ends nothing', async (t) => {
  const output = new Writable({ write (_chunk, _encoding, done) { done(new Error('write EPIPE')) } })
  const closed = new Promise((resolve) => { output.on('close', resolve) })
  const { run, streamer, lines, sql } = await ownStream(t, createStreamLines(output))
  await streamer.record(entry('acme'))
  await run(() => lines.length > 0)
  await closed
  t.equal((await sql('select from audit_outbox')).length, 1)
})

await t.test('a close waits neither for a receiver that hangs nor for one that redirects', async (t) => {
  for (const answer of [() => {}, status(302)]) {
    const { url, received } = await receiver(t, answer)
    const { app, sql } = await auditService(t, { AUDIT_STREAM: url, AUDIT_STREAM_SECRET: secret })
    await app.audit.record(entry('acme'))
    await until(() => received.length > 0)
    const began = performance.now()
    await app.close()
    t.ok(performance.now() - began < 3000)
    t.equal((await sql('select from audit_outbox')).length, 1)
  }
})
