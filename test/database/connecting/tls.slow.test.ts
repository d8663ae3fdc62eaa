import { sql } from 'drizzle-orm'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { withConnection } from '../../../src/database/connection.js'
import { tlsPostgres } from '../../fixtures/postgres/tls-postgres.js'
import { tcpProxy } from '../../fixtures/proxies/tcp-proxy.js'
import { buildTestApp } from '../../helper.js'
import { assertRefused } from './refusals.js'

t.setTimeout(300_000)

const postgres = await tlsPostgres(t)
const { url, ca } = postgres
const verified = `${url}?sslmode=verify-full&sslrootcert=${ca}`

/** Asserts why a connection is refused, without a value of the URL. */
const refused = async (t: Test, url: string, reason: RegExp) => {
  const { hostname, port, pathname } = new URL(url)
  await assertRefused(t, url, reason, [hostname, port, pathname, ca, 'canary', postgres.password])
}

/** Whether the connection of a URL is encrypted. */
async function isEncrypted (url: string): Promise<unknown> {
  const { rows } = await withConnection(url, async (db) => await db.execute(
    sql`select ssl from pg_stat_ssl where pid = pg_backend_pid()`
  ))
  return rows[0]?.['ssl']
}

await t.test('the form of a URL decides on TLS', async (t) => {
  for (const [parameters, isExpected] of Object.entries({
    [`?sslmode=verify-full&sslrootcert=${ca}`]: true,
    [`?sslrootcert=${ca}`]: true,
    [`?uselibpqcompat=true&sslmode=verify-ca&sslrootcert=${ca}`]: true,
    '?uselibpqcompat=true&sslmode=require': true,
    '?sslmode=no-verify': true,
    '?ssl=no-verify': true,
    '?sslmode=disable': false,
    '?ssl=false': false,
    '': false
  })) {
    t.equal(await isEncrypted(`${url}${parameters}`), isExpected, parameters)
  }
})

await t.test('a certificate that proves nothing is refused, with the way to mend it', async (t) => {
  await refused(t, `${url}?sslmode=verify-full`, /is not trusted \(.*sslrootcert=\/path\/to\/ca\.pem .* to MY_URL\.$/)
  await postgres.present('other')
  await refused(t, verified, /for another name \(ERR_TLS_CERT_ALTNAME_INVALID\)\. Write the host in MY_URL/)
  t.equal(await isEncrypted(verified.replace('verify-full', 'verify-ca&uselibpqcompat=true')), true)
  await postgres.present('expired')
  await refused(t, verified, /has expired \(CERT_HAS_EXPIRED\)\. Renew it/)
  await postgres.present('localhost')
  t.equal(await isEncrypted(verified), true)
})

await t.test('a server that requires TLS, or has none, says what to write', async (t) => {
  await postgres.requireTls()
  const mend = /without TLS \(SQLSTATE 28000\)\. Add sslmode=verify-full to MY_URL, and sslrootcert=/
  for (const plain of [url, `${url}?sslmode=disable`]) await refused(t, plain, mend)
  t.equal(await isEncrypted(verified), true)
  await postgres.admit('hostssl all canary 127.0.0.1/32 scram-sha-256')
  await refused(t, verified, /does not admit the user \(SQLSTATE 28000\)\. Correct the user in MY_URL or PGUSER/)
  await postgres.admitAll()
  await postgres.setTls('off')
  await refused(t, verified, /the server has no TLS\. Set ssl = on there, .* sslmode=disable in MY_URL\.$/)
  await postgres.setTls('on')
})

await t.test('a wrong user, password or database is named', async (t) => {
  const target = new URL(verified)
  const change = (part: Partial<URL>) => Object.assign(new URL(target), part).href
  const login = /user or the password is wrong \(SQLSTATE 28P01\)\. Correct them in MY_URL, or in PGUSER and PGPASSWORD/
  await refused(t, change({ password: 'canary' }), login)
  await refused(t, change({ username: 'canary' }), login)
  await refused(t, change({ password: '' }), /asks for a password\. Write it into MY_URL, or set PGPASSWORD/)
  await refused(t, change({ pathname: '/canary' }), /does not exist \(SQLSTATE 3D000\)\. .*MY_URL or PGDATABASE/)
  await refused(t, `${url}?sslrootcert=${ca}-canary`, /the file of sslrootcert, .* cannot be read \(ENOENT\)/)
})

await t.test('a database that is far away can be used, with TLS', async (t) => {
  const far = await tcpProxy(t, postgres.url)
  far.slow(150)
  const farUrl = `${far.url}?sslmode=verify-full&sslrootcert=${ca}`
  const began = performance.now()
  t.equal(await isEncrypted(farUrl), true)
  t.ok(performance.now() - began > 1500, 'six round trips of 300 ms')
  const { app, as } = await buildTestApp(t, { DATABASE_URL: farUrl, DATABASE_START_TIMEOUT_MS: 30_000 })
  const request = { url: '/api/v1/tenant/config', headers: as('acme') }
  const answers = await Promise.all([
    app.inject({ ...request, method: 'POST', payload: { waba_id: '1' } }),
    ...Array.from({ length: 5 }, async (_, number) => await app.inject({ ...request, headers: as(`t${number}`) }))
  ])
  t.same(answers.map(({ statusCode }) => statusCode), [201, 404, 404, 404, 404, 404])
  t.equal((await app.configLoader.forTenant('acme')).getWabaId(), '1')
})
