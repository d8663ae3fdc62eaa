import { spawnSync } from 'node:child_process'
import { inspect } from 'node:util'
import t from '../run/tap.js'
import { withoutPgDump } from '../fixtures/postgres/pg-dump.js'
import { config, configs, full, resolve, serviceKeys } from '../routes/client.js'
import { scanner } from '../secrets/canaries.js'
import { makeUnreachable } from '../helper.js'
import { bearer, keysClient } from './keys-client.js'

const { app, as, admin, call, createKey, databaseUrl, log, sql } = await keysClient(t, { METRICS_PORT: 0 })
await call(as('acme'), 'POST', config, full)
const { id, key, header } = await createKey({ scopes: ['credentials:read', 'configs:read'], tenants: ['acme'] })
const leaks = scanner({ key: key.slice(-43) })

await t.test('a key is in no answer, log line or error, wherever it is sent', async (t) => {
  const paths = [
    `${resolve}?tenant_id=acme`, `${resolve}?tenant_id=${key}`, `${resolve}?phone_number_id=${key}`,
    `${resolve}?${key}`,
    `${resolve}?waba_id=${key}`, `${resolve}/${key}`, `${configs}/all`, `${configs}/effective/acme`,
    `${configs}/effective/${key}`, `${serviceKeys}?cursor=${key}`, `${serviceKeys}/${key}`, config
  ]
  const whole = async (who: object, method: 'GET' | 'DELETE' | 'POST', url: string, body?: object) => {
    const payload = body === undefined ? {} : { payload: body }
    const answer = await app.inject({ method, url, headers: { ...who }, ...payload })
    t.same(leaks(`${method} ${url}`, JSON.stringify(answer.headers) + answer.body), [])
  }
  for (const who of [header, bearer(`${key}x`), bearer(`${key}.${key}.${key}`), { authorization: key }, as('acme')]) {
    for (const url of paths) await whole(who, 'GET', url)
  }
  await whole(admin, 'DELETE', `${serviceKeys}/${key}`)
  for (const body of [{ name: key, scopes: [key] }, { [key]: 1 }, { name: 'x', scopes: ['configs:read'], hash: key }]) {
    await whole(admin, 'POST', serviceKeys, body)
  }
  await whole(admin, 'GET', serviceKeys)
  await whole({}, 'GET', '/docs/json')
  const restore = await makeUnreachable(databaseUrl)
  for (const url of paths.slice(0, 2)) await whole(header, 'GET', url)
  const unknown = `wtc_${'0'.repeat(20)}${key.slice(-44)}`
  const thrown = await app.serviceKeys.authenticate(unknown).catch((err: unknown) => err)
  t.match(thrown, { code: 'DATABASE_UNAVAILABLE' })
  t.same(leaks('an error', inspect(thrown, { showHidden: true, depth: Infinity })), [])
  await restore()
  t.same(leaks('the log', log()), [])
  t.match(log(), `"key_id":"${id}"`, 'the log names the key')
  t.not(leaks('the log', `${log()} ${key}`).length, 0, 'the scan finds a key')
})

await t.test('a key is in no row and no dump', async (t) => {
  await app.audit.settled()
  for (const table of ['service_keys', 'audit_log']) {
    const rows = await sql(`select row::text from ${table} row`)
    t.not(rows.length, 0)
    t.same(leaks(table, JSON.stringify(rows)), [])
  }
  if (await withoutPgDump(databaseUrl) !== false) return
  const { status, stdout } = spawnSync('pg_dump', [databaseUrl], { encoding: 'utf8' })
  t.equal(status, 0)
  t.match(stdout, id)
  t.same(leaks('the dump', stdout), [])
})
