import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from '../run/tap.js'
import { withoutPgDump } from '../fixtures/postgres/pg-dump.js'
import { obtainAuditKey } from '../../src/audit/audit-key.sql.js'
import { receiver } from '../events/event-receiver.js'
import { signed } from '../fixtures/server-process.js'
import { startGraph } from '../graph/server.js'
import { canary, canaryKey, scanner } from './canaries.js'
import { secrets as newSecrets } from './database-faults.js'
import { KEYS, useEveryOperation } from './every-operation.js'
import { exchange } from './misplaced.js'
import { buildTestApp, createDatabase, query } from '../helper.js'

const meta = await startGraph()
t.teardown(meta.close)
const metaApp = meta.state.addApp({ app_secret: canary('FB_APP_SECRET') })
const events = await receiver(t)
const { app, databaseUrl } = await buildTestApp(t, {
  JWT_SECRET: canary('JWT_SECRET'),
  ENCRYPTION_KEYS: `k1:${canaryKey()}`,
  GRAPH_API_BASE_URL: meta.url,
  FB_APP_ID: metaApp.app_id,
  FB_APP_SECRET: metaApp.app_secret,
  OAUTH_REDIRECT_URIS: 'https://a.example/cb',
  WEBHOOK_VERIFY_TOKEN: canary('WEBHOOK_VERIFY_TOKEN'),
  EVENTS_WEBHOOK_URL: events.url,
  EVENTS_WEBHOOK_SECRET: canary('EVENTS_WEBHOOK_SECRET')
})
const skip = await withoutPgDump(databaseUrl)

/** The tables that the operations fill, beside those of events, which move from one to the other. */
const filled = [
  'audit_log', 'idempotency_keys', 'oauth_states', 'onboardings', 'service_keys', 'service_secrets', 'tenant_configs',
  'tenant_config_versions', 'token_watch', 'verified_identities'
]

await t.test('a dump contains no secret in clear, after each operation was used', { skip }, async (t) => {
  const leaks = scanner({})
  const dump = () => spawnSync('pg_dump', [databaseUrl], { encoding: 'utf8', maxBuffer: Infinity })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const authorization = `Bearer ${signed({ tenant_id: 'complete', role: 'admin' }, app.env.JWT_SECRET ?? '')}`
  leaks.add('the token', String(authorization.split('.')[2]))
  leaks.add('the audit key', await obtainAuditKey(app.database, app.vault))
  await useEveryOperation({
    meta,
    app: metaApp,
    verifyToken: String(app.env.WEBHOOK_VERIFY_TOKEN),
    async send (_tenantId, method, path, body, more) {
      const headers = { authorization, ...(body && { 'content-type': 'application/json' }), ...more }
      const answer = await exchange(app.listeningOrigin, { method, path, headers, body: body && JSON.stringify(body) })
      if (path === KEYS && answer.status === 201) leaks.add('a service key', JSON.parse(answer.body).key.slice(-43))
      return answer
    }
  })
  // Other ids would not be verified.
  const { phone_number_id: _, ...secrets } = { ...newSecrets(), callback_url: 'https://a.example/in-clear' }
  const request = { method: 'PUT', url: '/api/v1/tenant/config', headers: { authorization } } as const
  t.equal((await app.inject({ ...request, payload: secrets })).statusCode, 200)
  await app.audit.settled()
  for (const table of filled) t.not((await query(databaseUrl, `select from ${table}`)).length, 0, table)

  const { status, stdout } = dump()
  t.equal(status, 0)
  t.match(stdout, 'in-clear')
  t.same(leaks('pg_dump', stdout), [])
  // pg_dumpall would print the hashes of passwords too.
  t.same(await query(databaseUrl, `select rolname from pg_authid
    where rolname like 'tenant\\_config\\_%' and (rolpassword is not null or rolcanlogin)`), [])

  await query(databaseUrl, `create table planted as select '${secrets.access_token}' as text`)
  t.not(leaks('pg_dump', dump().stdout).length, 0, 'the scan finds a secret that is in the dump')
})

await t.test('a data-only restore of rows, keys and versions serves the same', { skip }, async (t) => {
  const { app, as, databaseUrl } = await buildTestApp(t)
  const dump = join(t.testdir({}), 'all.dump')
  const part = join(t.testdir({}), 'part.dump')
  const tables = ['--table=tenant_configs', '--table=vault_keys', '--table=tenant_config_versions']
  const payload = { waba_id: '1', phone_number_id: '1', access_token: canary('restored') }
  t.equal(
    (await app.inject({ method: 'POST', url: '/api/v1/tenant/config', headers: as('restored'), payload })).statusCode,
    201
  )
  const former = { method: 'PUT', url: '/api/v1/tenant/config', headers: as('restored') } as const
  t.equal((await app.inject({ ...former, payload: { waba_id: 'former' } })).statusCode, 200)
  t.equal((await app.inject({ ...former, payload: { waba_id: '1' } })).statusCode, 200)
  await query(databaseUrl, "update tenant_configs set last_verified_at = now() where tenant_id = 'restored'")
  t.equal(spawnSync('pg_dump', ['--format=custom', `--file=${dump}`, databaseUrl]).status, 0)
  t.equal(spawnSync('pg_dump', ['--format=custom', ...tables, `--file=${part}`, databaseUrl]).status, 0)
  for (const triggers of [[], ['--disable-triggers']]) {
    for (const options of [[...tables, dump], [part]]) {
      const DATABASE_URL = await createDatabase(t)
      const restored = spawnSync(
        'pg_restore',
        ['--data-only', '--exit-on-error', ...triggers, `--dbname=${DATABASE_URL}`, ...options],
        { encoding: 'utf8' }
      )
      t.same([restored.status, restored.stderr], [0, ''], `pg_restore --data-only ${triggers.join(' ')}`)
      const service = await buildTestApp(t, { DATABASE_URL })
      const read = async (path: string) =>
        (await service.app.inject({ url: `/api/v1/tenant/config${path}`, headers: service.as('restored') })).json()
      t.match(await read('/full'), payload)
      t.match(await read('/versions'), { versions: [{ version: 2 }, { version: 1 }], next_cursor: null })
      t.match(await read('/health'), { token_status: 'unverified', reason: null, next_check_at: /Z$/ })
      t.match(
        await query(DATABASE_URL, 'select tenant_id, phone_number_id from verified_identities'),
        [{ tenant_id: 'restored', phone_number_id: '1' }]
      )
      t.equal(
        (await service.app.inject({
          method: 'POST',
          url: '/api/v1/tenant/config',
          headers: service.as('new'),
          payload: { waba_id: '2' }
        })).statusCode,
        201,
        'a new row gets an id'
      )
      const undone = await service.app.inject({
        method: 'POST', url: '/api/v1/tenant/config/versions/2/restore', headers: service.as('restored')
      })
      t.match(undone.json(), { waba_id: 'former', access_token: `****${payload.access_token.slice(-4)}` })
      t.match(await read('/versions'), { versions: [{ version: 3, changed: ['waba_id'] }, {}, {}] })
      t.same(
        await query(
          DATABASE_URL,
          "select tgname from pg_trigger where not tgisinternal and tgname <> 'quiet' and tgenabled <> 'A'"
        ),
        []
      )
    }
  }
})
