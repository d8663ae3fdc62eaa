import t from '../run/tap.js'
import { config } from '../routes/client.js'
import { isReplay, newKey, sendTo } from '../idempotency/idempotency-service.js'
import { auditService } from './audit-service.js'

await t.test('a request whose answer was withheld gets it when it is sent again, and is recorded then', async (t) => {
  const service = await auditService(t)
  const { recordsOf, sql } = service
  const send = sendTo(service)
  const [key, body] = [newKey(), { waba_id: '1' }]
  await sql('alter table audit_log rename to away')
  t.equal((await send('acme', key, config, body)).is, '503 AUDIT_UNAVAILABLE')
  await sql('alter table away rename to audit_log')
  for (const answer of [await send('acme', key, config, body), await send('acme', key, config, body)]) {
    t.equal(answer.is, '201')
    t.ok(isReplay(answer))
  }
  const record = { action: 'config.create', outcome: 'ok', fields: ['waba_id'] }
  t.match(await recordsOf('acme'), [record, record])
})
