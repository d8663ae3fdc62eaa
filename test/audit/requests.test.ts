import { once } from 'node:events'
import { connect as connectSocket } from 'node:net'
import Fastify from 'fastify'
import t from '../run/tap.js'
import whatsappTenantConfig, { buildApp } from '../../src/app.js'
import { baseEnv, connect, until, untilWaiting } from '../helper.js'
import { openapiService } from '../http/openapi-service.js'
import { base, config, configs, full, onboard } from '../routes/client.js'
import { auditService } from './audit-service.js'

const service = await auditService(t, { TRUST_PROXY: 'true' })
const { app, admin, as, call, sql, log, recordsOf, linesOf, verify, databaseUrl } = service
const auditor = { authorization: `Bearer ${app.auth.mint({ auditor: true, userId: 'auditor-1' }, 60)}` }

await t.test('each request that changes or reveals is recorded once, with the names of its fields', async (t) => {
  const who = as('acme', 'user-1')
  const fields = Object.keys(full).join()
  const cursorless = { access_token: 'token-of-a-login-0123' }
  for (const [method, url, body, expected] of [
    ['GET', `${config}/full`, undefined, 'config.read_full refused CONFIG_NOT_FOUND'],
    ['POST', config, full, `config.create ok  ${fields}`],
    ['POST', config, cursorless, 'config.create refused CONFIG_EXISTS access_token'],
    ['GET', `${config}/full`, undefined, 'config.read_full ok'],
    ['HEAD', `${config}/full`, undefined, 'config.read_full ok'],
    [
      'PUT', config, { verify_token: null, callback_url: full.callback_url },
      'config.update ok  callback_url,verify_token'
    ],
    ['PUT', config, { nonsense: 1, waba_id: 5 }, 'config.update refused VALIDATION_FAILED waba_id'],
    ['PUT', config, '{', 'config.update refused MALFORMED_JSON'],
    ['PUT', config, [], 'config.update refused VALIDATION_FAILED'],
    ['PUT', config, { fb_app_secret: '****abcd' }, 'config.update refused MASKED_VALUE fb_app_secret'],
    ['POST', `${config}/deactivate`, undefined, 'config.deactivate ok'],
    ['POST', `${config}/activate`, {}, 'config.activate ok'],
    ['POST', `${config}/verify`, { waba_id: '2' }, 'config.verify failed META_UNAVAILABLE waba_id'],
    ['POST', `${onboard}/start`, undefined, 'onboarding.start ok'],
    ['POST', onboard, { code: 'a-code', pin: '123456' }, 'onboarding.complete failed META_EXCHANGE_UNKNOWN code,pin'],
    ['POST', `${onboard}/resume`, { pin: null }, 'onboarding.resume failed META_EXCHANGE_UNKNOWN pin'],
    ['DELETE', config, undefined, 'config.delete ok']
  ] as Array<[string, string, unknown, string]>) {
    const before = (await linesOf('acme')).length
    await call(who, method, url, body, { 'content-type': 'application/json' })
    t.strictSame((await linesOf('acme')).slice(before), [`user-1 tenant ${expected}`], `${method} ${url}`)
  }
  for (const [url, method = 'GET'] of [
    [config], [`${config}/effective`], [`${config}/health`], [onboard], [`${config}/audit`], [`${config}/nothing`],
    [config, 'PATCH']
  ] as const) {
    const before = await linesOf('acme')
    await call(who, method, url)
    t.strictSame(await linesOf('acme'), before, `${method} ${url} is not recorded`)
  }
})

await t.test('what an admin does with a tenant is in the chain of that tenant, the rest in that of none', async (t) => {
  await call(as('globex'), 'POST', config, { waba_id: '1' })
  await call(admin, 'DELETE', `${configs}/delete-tenant/globex`)
  t.strictSame(await linesOf('globex'), [
    ' tenant config.create ok  waba_id', ' admin config.delete ok'
  ])
  const before = (await linesOf('')).length
  const id = '5d0f6f0e-6a7c-4a58-9d3b-1f8f6a3f0c55'
  await call(admin, 'DELETE', `${configs}/delete-tenant/${'x'.repeat(101)}`)
  await call(admin, 'DELETE', `${configs}/delete-tenant/%0a`)
  await call(admin, 'DELETE', `${configs}/delete-tenant/a-secret-in-the-wrong-place`)
  await call(admin, 'DELETE', `${configs}/delete-all`)
  await call(admin, 'DELETE', `${configs}/delete-all?confirm=delete-all:0`)
  await call(admin, 'POST', `${base}/admin/events/${id}/redeliver`)
  await call(admin, 'GET', `${base}/admin/audit`)
  await call(admin, 'GET', `${base}/admin/audit?cursor=x`)
  await call(auditor, 'GET', `${base}/admin/audit`)
  await call(admin, 'GET', `${configs}/all`)
  await call(admin, 'GET', `${configs}/stats`)
  t.strictSame((await linesOf('')).slice(before), [
    ' admin config.delete refused VALIDATION_FAILED', ' admin config.delete refused VALIDATION_FAILED',
    ' admin config.delete refused CONFIG_NOT_FOUND',
    ' admin config.delete_all refused CONFIRMATION_REQUIRED', ' admin config.delete_all ok',
    // The id of an event is none of a tenant.
    ' admin event.redeliver refused EVENT_NOT_FOUND',
    ' admin audit.read ok', ' admin audit.read refused INVALID_CURSOR',
    'auditor-1 auditor audit.read ok'
  ])
  t.strictSame(await linesOf(id), [])
  t.notMatch(JSON.stringify(await sql('select * from audit_log')), /wrong-place|%0a|xxx/)
})

await t.test('the address is that of the client, and no other text of a header', async (t) => {
  for (const [header, address] of [
    ['203.0.113.9', '203.0.113.9'], ['2001:db8::1', '2001:db8::1'], ['unknown', null], ['canary-secret', null],
    [`fe80::1%${'x'.repeat(60)}`, null]
  ] as const) {
    await call({ ...as('addresses'), 'x-forwarded-for': header }, 'GET', `${config}/full`)
    await app.audit.settled()
    t.equal((await recordsOf('addresses')).at(-1)?.['address'], address, header)
  }
})

await t.test('a host server may make ids of requests that are no ids', async (t) => {
  const host = Fastify({ genReqId: ({ url }) => url?.includes('limit') ? `a b${'c'.repeat(200)}` : 'req-1' })
  t.teardown(() => host.close())
  await host.register(whatsappTenantConfig, { env: { ...baseEnv, DATABASE_URL: databaseUrl } })
  const headers = as('hosted')
  await host.inject({ url: `${config}/full`, headers })
  await host.inject({ url: `${config}/full?limit=1`, headers })
  await host.audit.settled()
  t.match(await recordsOf('hosted'), [{ request_id: 'req-1' }, { request_id: null }])
})

await t.test('every operation of a tenant or an admin that changes or reveals is recorded', async (t) => {
  const { operations } = await openapiService(t)
  const reveals = (operation: object) => /FullConfig|AuditPage|Resolved/.test(JSON.stringify(operation))
  const due = operations.filter(({ method, operation }) => operation.security.length > 0 &&
    (method !== 'GET' || reveals(operation)) && operation.operationId !== 'listOwnAudit')
  t.ok(due.length > 12)
  for (const { method, path, operation } of due) {
    t.match(operation.responses['503']?.description, 'AUDIT_UNAVAILABLE', `${method} ${path} has no \`audit\``)
  }
})

await t.test('without its record no secret leaves, and the answer to a change says that it stands', async (t) => {
  const who = as('withheld', 'user-1')
  await call(who, 'POST', config, full)
  const before = (await recordsOf('withheld')).length
  const lockHolder = await connect(t, databaseUrl)
  for (const [away, back] of [
    ['begin; lock table audit_log', 'commit'],
    ['alter table audit_log rename to away', 'alter table away rename to audit_log']
  ] as const) {
    await lockHolder.query(away)
    const began = performance.now()
    const [read, changed, refused, denied, masked] = await Promise.all([
      call(who, 'GET', `${config}/full`),
      call(who, 'PUT', config, { waba_id: `changed-${away.length}` }),
      call(who, 'PUT', config, {}),
      call(who, 'GET', `${configs}/all?limit=${away.length}`),
      call(who, 'GET', config)
    ])
    t.ok(performance.now() - began < 5000)
    for (const answer of [read, changed]) {
      t.equal(answer.is, '503 AUDIT_UNAVAILABLE')
      t.match(answer.body['detail'], /A change that it made stands/)
      for (const value of Object.values(full)) t.notMatch(JSON.stringify(answer), value)
    }
    t.equal(refused.is, '400 VALIDATION_FAILED')
    t.equal(denied.is, '403 FORBIDDEN')
    t.equal(masked.is, '200')
    await lockHolder.query(back)
  }
  await app.audit.settled()
  t.equal((await call(who, 'GET', config)).body['waba_id'], `changed-${'alter table audit_log rename to away'.length}`)
  t.equal((await recordsOf('withheld')).length, before)
  t.match(log(), '"audit":{"count":1,"tenant_id":"withheld","actor":"user-1","role":"tenant","action":"config.update",')
})

await t.test('a change is recorded also when its client has left', async (t) => {
  await app.listen({ port: 0, host: '127.0.0.1' })
  await call(as('gone'), 'POST', config, { waba_id: '1' })
  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query("begin; select from tenant_configs where tenant_id = 'gone' for update")
  const socket = connectSocket(Number(new URL(app.listeningOrigin).port), '127.0.0.1')
  const { authorization } = as('gone')
  const start = `POST ${config}/deactivate HTTP/1.1`
  const lines = [start, 'host: x', `authorization: ${authorization}`, 'content-length: 0']
  socket.write(`${lines.join('\r\n')}\r\n\r\n`)
  await untilWaiting(databaseUrl, 1)
  socket.destroy()
  await once(socket, 'close')
  await lockHolder.query('commit')
  await until(async () => (await recordsOf('gone')).length === 2)
  t.match((await recordsOf('gone'))[1], { action: 'config.deactivate', outcome: 'ok' })
})

await t.test('a service that closes stores its records first', async (t) => {
  const closing = await buildApp({ ...baseEnv, DATABASE_URL: databaseUrl, LOG_LEVEL: 'silent' })
  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query('begin; lock table audit_log in share mode')
  await closing.inject({ method: 'PUT', url: config, headers: as('closing'), payload: {} })
  const closed = closing.close()
  await untilWaiting(databaseUrl, 1)
  await lockHolder.query('commit')
  await closed
  t.match(await recordsOf('closing'), [{ action: 'config.update', outcome: 'refused' }])
})

await t.test('no value of a body, a query or a token is in the log of who did what', async (t) => {
  const who = as('leaks')
  const canary = 'canary-value-0123456789'
  await call(who, 'POST', config, { ...full, access_token: canary })
  for (const body of [
    { [canary]: 1 }, { access_token: [canary] }, { waba_id: { [canary]: canary } }, [canary], `"${canary}`
  ]) {
    await call(who, 'PUT', config, body)
  }
  await call(who, 'POST', onboard, { code: canary, state: canary, pin: '987654' })
  await call(who, 'DELETE', `${config}?unsubscribe=${canary}`)
  await call(admin, 'DELETE', `${configs}/delete-all?confirm=${canary}`)
  await app.audit.settled()
  t.ok((await recordsOf('leaks')).length > 6)
  const stored = JSON.stringify([await sql('select * from audit_log'), await sql('select * from audit_outbox')])
  for (const value of [canary, '987654', ...Object.values(full), who.authorization.slice('Bearer '.length)]) {
    t.notOk(stored.includes(value), value)
  }
  t.same((await verify()).broken, [])
})
