import Fastify from 'fastify'
import t from '../run/tap.js'
import whatsappTenantConfig from '../../src/app.js'
import { faults } from '../graph/faults.js'
import { operationsOf, type Document } from '../http/openapi-document.js'
import type { Body } from '../onboarding/onboarding-service.js'
import { config, full, onboard, type Answer } from '../routes/client.js'
import { essence, idempotencyService, idempotentRoutes, isReplay, newKey, resume } from './idempotency-service.js'

const service = await idempotencyService(t)
const {
  app, as, call, send, sql, keys, meta, asked, login, newTenant, newWaba, row, configure, untilReleased
} = service
const REUSED = '422 IDEMPOTENCY_KEY_REUSED'

/** A first request to each idempotent route that succeeds, and another body for the same route. */
const successes: Record<string, (tenant: string) => Promise<{ is: string, body: Body, other: Body }>> = {
  [config]: async () => ({ is: '201', body: full, other: { ...full, verify_token: 'other' } }),

  [onboard]: async (tenant) => {
    const body = login(tenant, { pin: '190285' })
    return { is: '201', body, other: { ...body, pin: '190286' } }
  },

  [resume]: async (tenant) => {
    const { id: waba_id, phones: [phone] } = newWaba(2)
    const body = { code: service.issue({ waba_ids: [waba_id] }), waba_id }
    await call(as(tenant), 'POST', onboard, body)
    return { is: '200', body: { phone_number_id: phone?.id }, other: { phone_number_id: 'other' } }
  }
}

await t.test('the document shows the header at the idempotent routes, and each of them has a test', async (t) => {
  const { paths }: Document = (await app.inject({ url: '/docs/json' })).json()
  const shown = operationsOf({ paths }).flatMap(({ method, path, operation: { parameters = [], responses } }) => {
    if (!parameters.some(({ name }) => name === 'idempotency-key')) return []
    t.match(responses['422']?.description, 'IDEMPOTENCY_KEY_REUSED')
    t.match(responses['409'], { description: /IDEMPOTENCY_IN_PROGRESS/, headers: { 'retry-after': {} } })
    return [`${method} ${path}`]
  })
  t.same(shown, idempotentRoutes.map((path) => `POST ${path}`))
  t.same(Object.keys(successes), idempotentRoutes)
})

for (const [url, prepare] of Object.entries(successes)) {
  await t.test(`${url}: the same key and body get the first answer, and nothing is executed`, async (t) => {
    const [tenant, key] = [newTenant(), newKey()]
    const { is, body, other } = await prepare(tenant)
    const first = await send(tenant, key, url, body)
    t.equal(first.is, is)
    t.notOk(isReplay(first))
    const calls = asked().length
    const reordered = Object.fromEntries(Object.entries(body).reverse())
    const spaced = ` ${JSON.stringify(body, null, 2)}\n`
    const header = { ...as(tenant), 'idempotency-key': `"${key}"`, 'content-type': 'application/json' }
    const repeated = {
      'as it was': await send(tenant, key, url, body),
      'with other white space and a quoted key': await call(header, 'POST', url, spaced),
      'with its fields in another order': await send(tenant, key, url, reordered),
      'of another user of the tenant': await call({ ...header, ...as(tenant, 'another') }, 'POST', url, spaced)
    }
    for (const [how, answer] of Object.entries(repeated)) {
      t.same(essence(answer), essence(first), how)
      t.ok(isReplay(answer), how)
    }
    t.equal(asked().length, calls, 'no call to Meta')

    for (const changed of [other, { ...body, redirect_uri: undefined, waba_id: 'other' }]) {
      t.equal((await send(tenant, key, url, changed)).is, REUSED)
    }
    t.same(essence(await send(tenant, key, url, body)), essence(first), 'a reuse changes nothing')
    t.equal((await keys(tenant)).length, 1)
    t.equal(asked().length, calls)
  })

  await t.test(`${url}: the first answer stays after the configuration was changed and deleted`, async (t) => {
    const [tenant, key] = [newTenant(), newKey()]
    const { body } = await prepare(tenant)
    const first = await send(tenant, key, url, body)
    await configure(tenant, 'PUT', { callback_url: 'https://changed.example' })
    t.same(essence(await send(tenant, key, url, body)), essence(first))
    t.equal((await configure(tenant, 'DELETE')).is, '204')
    t.same(essence(await send(tenant, key, url, body)), essence(first))
    t.equal(await row(tenant), undefined, 'a late repetition does not create it again')
  })
}

await t.test('the answer is the same to the byte', async (t) => {
  const headers = { ...as(newTenant()), 'idempotency-key': newKey() }
  const payload = { callback_url: 'https://ä.example/é?a=%20', verify_token: 'é"\\ü漢' }
  const [first, second] = [
    await app.inject({ method: 'POST', url: config, headers, payload }),
    await app.inject({ method: 'POST', url: config, headers, payload })
  ]
  t.equal(second.headers['idempotent-replayed'], 'true')
  t.same(second.rawPayload, first.rawPayload)
  const without = ({ 'idempotent-replayed': _replayed, date: _date, ...others }: Record<string, unknown>) => others
  t.same(without(second.headers), without(first.headers))
})

await t.test('another route with the same key and body is a reuse', async (t) => {
  const [tenant, key] = [newTenant(), newKey()]
  const body = { waba_id: service.waba.id, phone_number_id: '1' }
  t.equal((await send(tenant, key, config, body)).is, '201')
  t.equal((await send(tenant, key, resume, body)).is, REUSED)
  t.equal((await send(tenant, key, onboard, login(tenant))).is, REUSED)
  t.equal((await send(tenant, newKey(), resume, body)).is, '404 ONBOARDING_NOT_FOUND')
})

await t.test('the key of a tenant means nothing for another tenant', async (t) => {
  const [first, second, key] = [newTenant(), newTenant(), newKey()]
  const [ofFirst, ofSecond] = [
    await send(first, key, config, { verify_token: 'of the first' }),
    await send(second, key, config, { verify_token: 'of the first' })
  ]
  t.same([ofFirst.is, ofSecond.is], ['201', '201'])
  t.same([ofFirst.body['tenant_id'], ofSecond.body['tenant_id']], [first, second])
  t.notOk(isReplay(ofSecond))
  const [[stored], [other]] = [await keys(first), await keys(second)]
  t.equal(stored?.['key_hash'], other?.['key_hash'])
  t.not(stored?.['fingerprint'], other?.['fingerprint'], 'equal requests do not look alike in the database')

  await sql('delete from idempotency_keys where tenant_id = $1', [second])
  await sql('update idempotency_keys set tenant_id = $1 where tenant_id = $2', [second, first])
  t.equal((await send(second, key, config, { verify_token: 'of the first' })).is, REUSED, 'a moved row answers nothing')
})

await t.test('no body and an empty one are the same request', async (t) => {
  const [tenant, key] = [newTenant(), newKey()]
  await service.post(tenant, login(tenant))
  const first = await send(tenant, key, resume)
  t.equal(first.is, '200')
  for (const body of [{}, undefined]) t.ok(isReplay(await send(tenant, key, resume, body)))
  t.equal((await send(tenant, key, resume, { waba_id: '1' })).is, REUSED)
})

await t.test('a refusal that stays is repeated without another execution', async (t) => {
  const cases: Array<[string, string, (tenant: string) => Body]> = [
    ['400 MASKED_VALUE', config, () => ({ access_token: '****1234' })],
    ['400 META_CODE_INVALID', onboard, (tenant) => login(tenant, { code: 'x' })],
    ['403 META_WABA_NOT_ACCESSIBLE', onboard, (tenant) => login(tenant, { waba_id: '404' })],
    ['404 ONBOARDING_NOT_FOUND', resume, () => ({})]
  ]
  for (const [is, url, bodyOf] of cases) {
    const [tenant, key] = [newTenant(), newKey()]
    const body = bodyOf(tenant)
    const first = await send(tenant, key, url, body)
    t.equal(first.is, is)
    const calls = asked().length
    const second = await send(tenant, key, url, body)
    t.same(essence(second), essence(first), 'with the request_id of the first')
    t.ok(isReplay(second))
    t.equal(asked().length, calls)
  }
})

await t.test('a refusal that may pass is executed again, and another body stays a reuse', async (t) => {
  const tenant = newTenant()
  const key = newKey()
  await configure(tenant, 'POST', full)
  t.equal((await send(tenant, key, config, full)).is, '409 CONFIG_EXISTS')
  const again = await send(tenant, key, config, full)
  t.equal(again.is, '409 CONFIG_EXISTS')
  t.notOk(isReplay(again))
  t.equal((await send(tenant, key, config, { waba_id: '1' })).is, REUSED)
  await configure(tenant, 'DELETE')
  t.equal((await send(tenant, key, config, full)).is, '201')
  t.ok(isReplay(await send(tenant, key, config, full)))
})

for (const [is, fault] of Object.entries({
  '503 META_UNAVAILABLE': faults.dropBefore,
  '502 META_UNEXPECTED_REPLY': faults.unreadable,
  '504 META_TIMEOUT': { latency_ms: 60_000 }
})) {
  await t.test(`after ${is} the same request goes on`, async (t) => {
    const short = await service.instance({ GRAPH_TIMEOUT_MS: 300 })
    const [tenant, key] = [newTenant(), newKey()]
    const body = login(tenant)
    const header = { ...short.as(tenant), 'idempotency-key': key }
    const ask = async (): Promise<Answer> => await short.call(header, 'POST', onboard, body)
    meta.fail('phone_numbers', fault)
    t.equal((await ask()).is, is)
    await untilReleased(tenant)
    const second = await ask()
    t.equal(second.is, '201')
    t.notOk(isReplay(second))
    t.same(essence(await ask()), essence(second))
    t.equal(asked('access_token').length, 1, 'Meta sees the code once')
  })
}

await t.test('without the header nothing is stored, and other routes ignore it', async (t) => {
  const tenant = newTenant()
  const key = newKey()
  t.equal((await configure(tenant, 'POST', full)).is, '201')
  const header = { ...as(tenant), 'idempotency-key': key }
  for (const [method, path] of [
    ['GET', config], ['GET', `${config}/full`], ['PUT', config], ['POST', `${config}/deactivate`], ['DELETE', config]
  ] as const) {
    const answer = await call(header, method, path, method === 'PUT' ? { waba_id: '1' } : undefined)
    t.match(answer.is, /^20[04]$/, path)
  }
  t.same(await keys(tenant), [])
})

await t.test('the headers that belong to an answer are repeated, whoever set them; others are not', async (t) => {
  const host = Fastify()
  t.teardown(async () => await host.close())
  host.addHook('onSend', (_request, reply, _payload, done) => {
    if (!reply.hasHeader('etag')) reply.header('etag', `"${newKey()}"`)
    reply.header('x-of-this-answer', newKey())
    done()
  })
  await host.register(whatsappTenantConfig, { env: { ...app.env, DATABASE_URL: service.databaseUrl } })
  for (const [url, prepare] of Object.entries(successes)) {
    const tenant = newTenant()
    const { body: payload } = await prepare(tenant)
    const request = { method: 'POST', url, headers: { ...as(tenant), 'idempotency-key': newKey() }, payload } as const
    const [first, second] = [await host.inject(request), await host.inject(request)]
    t.ok(first.statusCode < 300 && second.headers['idempotent-replayed'] === 'true')
    t.equal(second.headers['etag'], first.headers['etag'])
    t.not(second.headers['x-of-this-answer'], first.headers['x-of-this-answer'])
  }
})
