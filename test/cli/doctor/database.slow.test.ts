import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { isRemoteWithoutTls } from '../../../src/database/connection.js'
import { rollback } from '../../../src/database/migrations/migrations.js'
import { createVault } from '../../../src/vault/vault.js'
import { dataDir, logOf, postmasterOf, starter } from '../../fixtures/embedded.js'
import { tags } from '../../fixtures/migrations.js'
import { buildTestApp, connect, createDatabase, query } from '../../helper.js'
import { canary, canaryKey } from '../../secrets/canaries.js'
import { check, startPatient, statuses } from './patient.js'

// Two dozen processes: slow on a busy machine.
t.setTimeout(300_000)

const newest = String(tags.at(-1))
const noDatabase = { database: 'failed', keys: 'skipped' }
const [one, two] = [canaryKey(), canaryKey()]

await t.test('a database that cannot be used is found, and how to mend it', async (t) => {
  const { env, check } = await startPatient(t)
  const url = String(env['DATABASE_URL'])
  const closed = `postgres://${canary('user')}:${canary('password')}@127.0.0.1:1/${canary('name')}`
  t.match(await check({ DATABASE_URL: closed }), {
    code: 1,
    statuses: statuses(noDatabase),
    texts: { database: /^DATABASE_URL: The database cannot be reached: .*\(ECONNREFUSED\)\. .*Start the database/ }
  })
  t.match(await check({ DATABASE_DIRECT_URL: closed }), {
    code: 1,
    statuses: statuses(noDatabase),
    texts: { database: /^DATABASE_DIRECT_URL: .* port in DATABASE_DIRECT_URL\. .* correct DATABASE_DIRECT_URL\./ }
  })
  const unknown = new URL(url)
  unknown.pathname = `/${canary('unknown')}`
  t.match(await check({ DATABASE_URL: unknown.href }), { code: 1, texts: { database: /SQLSTATE 3D000/ } })
  const ascii = new URL(url)
  await query(url, `create database ${ascii.pathname.slice(1)}_ascii encoding 'SQL_ASCII' locale 'C'
    locale_provider libc template template0`)
  ascii.pathname += '_ascii'
  t.match(await check({ DATABASE_URL: ascii.href }), {
    code: 1,
    statuses: statuses(noDatabase),
    texts: { database: /not encoded in UTF8/ }
  })
  await query(url, `drop database ${ascii.pathname.slice(1)}`)
  t.match(await check({ DATABASE_DIRECT_URL: url }), { code: 0, statuses: statuses() })
})

await t.test('pending migrations are named, and not applied', async (t) => {
  const { env, check } = await startPatient(t)
  const url = String(env['DATABASE_URL'])
  await rollback(url, async () => true)
  const lacking = new RegExp(`lacks the migrations ${newest}\\.`)
  t.match(await check(), {
    code: 1,
    statuses: statuses(noDatabase),
    texts: { database: new RegExp(`${lacking.source} Run .npm run db:migrate.`) }
  })
  t.match(await check({ MIGRATE_ON_START: 'true' }), {
    code: 0,
    statuses: statuses({ database: 'warning', keys: 'skipped' }),
    texts: { database: lacking }
  })
  const empty = await createDatabase(t, { empty: true })
  t.match(await check({ DATABASE_URL: empty }), { code: 1, texts: { database: new RegExp(tags.join(', ')) } })
  t.same(await query(empty, "select from pg_tables where schemaname in ('public', 'drizzle')"), [])
})

await t.test('a database that does not answer does not hold the command up', async (t) => {
  const { check } = await startPatient(t)
  const silent = createServer().listen(0, '127.0.0.1')
  await once(silent, 'listening')
  t.teardown(() => silent.close())
  const address = silent.address()
  const port = typeof address === 'object' ? address?.port : ''
  t.match(await check({ DATABASE_URL: `postgres://u:p@127.0.0.1:${port}/x` }), {
    code: 1,
    statuses: statuses(noDatabase),
    texts: { database: /no answer within connect_timeout\. .* in DATABASE_URL,/ }
  })
})

await t.test('a connection to another machine without TLS is warned of', async (t) => {
  const { env, check } = await startPatient(t)
  const remote = new URL(String(env['DATABASE_URL']))
  // A name that is no loopback to the service leads to this machine.
  remote.searchParams.set('host', '0.0.0.0')
  t.ok(isRemoteWithoutTls(remote.href))
  t.match(await check({ DATABASE_URL: remote.href }), {
    code: 0,
    statuses: statuses({ database: 'warning' }),
    texts: { database: /without TLS: DATABASE_URL\. Add \?sslmode=verify-full/ }
  })
})

/** Seals a token for each tenant with a key, and stores it as the service does. */
async function store (t: Test, url: string, keyRing: string, tenants: string[]): Promise<void> {
  const { app } = await buildTestApp(t, { DATABASE_URL: url, ENCRYPTION_KEYS: keyRing })
  for (const tenant of tenants) {
    await app.tenantConfigs.create(tenant, null, { access_token: canary(tenant), verify_token: canary(tenant) })
  }
  await app.close()
}

await t.test('keys that do not fit what is stored are found', async (t) => {
  const { env, check } = await startPatient(t)
  const url = String(env['DATABASE_URL'])
  const ring = { ENCRYPTION_KEYS: `k2:${two},k1:${one}` }
  const noKeys = statuses({ keys: 'failed' })
  t.match(await check(ring), { code: 0, texts: { keys: /No secret is stored yet/ } })
  t.same(await query(url, 'select from vault_keys'), [], 'no check value is stored')

  await store(t, url, `k1:${one}`, ['acme'])
  await store(t, url, ring.ENCRYPTION_KEYS, ['globex', 'initech'])
  t.match(await check(ring), {
    code: 0,
    statuses: statuses(),
    texts: { keys: /every key in use \(k1, k2\), and a sample of 7 secrets opens/ }
  })
  t.match(await check({ ENCRYPTION_KEYS: `k2:${two}` }), {
    code: 1,
    statuses: noKeys,
    texts: { keys: /lacks the key k1, .*Add it at the end of ENCRYPTION_KEYS/ }
  })
  t.match(await check({ ENCRYPTION_KEYS: `k2:${canaryKey()},k1:${one}` }), {
    code: 1,
    statuses: noKeys,
    texts: { keys: /another key under the key k2 .*Restore the former key/ }
  })

  const former = createVault({ keyRing: `k3:${canaryKey()}` }).seal(canary('former'), 'acme', 'access_token')
  await query(url, `insert into onboardings (tenant_id, code_hash, status, steps, former)
    values ('acme', 'hash', 'in_progress', '[]', $1)`, [{ access_token: former }])
  t.match(await check(ring), { code: 1, statuses: noKeys, texts: { keys: /lacks the key k3/ } })
  await query(url, 'delete from onboardings')

  await query(url, `update tenant_configs set access_token = (
    select access_token from tenant_configs where tenant_id = 'globex') where tenant_id = 'initech'`)
  const moved = await check(ring)
  t.match(moved, { code: 1, statuses: noKeys, texts: { keys: /1 of 9 secrets do not open.*PUT \/config/ } })
  t.notMatch(moved.texts['keys'], /initech|globex/)
  await query(url, 'update tenant_configs set access_token = $1', [canary('in clear')])
  t.match(await check(ring), { code: 1, statuses: noKeys, texts: { keys: /Some stored secrets are not sealed/ } })
})

await t.test('a table that cannot be read is no sound one', async (t) => {
  const { env, check } = await startPatient(t)
  const lockHolder = await connect(t, String(env['DATABASE_URL']))
  await lockHolder.query('drop table vault_keys')
  t.match(await check(), { code: 1, statuses: statuses({ keys: 'failed' }), texts: { keys: /SQLSTATE 42P01/ } })
})

await t.test('the embedded database is read while it runs, and neither created nor started', async (t) => {
  const { env } = await startPatient(t)
  const dir = dataDir(t)
  const local = { ...env, DATABASE_URL: '', DATA_DIR: dir }
  const unread = statuses({ database: 'skipped', keys: 'skipped' })
  const generated = { ...local, JWT_SECRET: '', ENCRYPTION_KEYS: '' }
  t.match(await check(t, generated), {
    code: 0,
    statuses: unread,
    texts: { settings: /generates JWT_SECRET.*generates ENCRYPTION_KEYS/, database: /no embedded database yet/ }
  })
  t.notOk(existsSync(dir), 'nothing is created')

  const { child, url } = starter(t, dir)
  await url
  t.match(await check(t, local), {
    code: 0,
    statuses: statuses({ database: 'warning', keys: 'skipped' }),
    texts: { database: /lacks the migrations .*The next start applies them/ }
  })
  const { app } = await buildTestApp(t, { DATABASE_URL: await url, MIGRATE_ON_START: true })
  await app.close()
  // The doctor has another ring than the one that sealed the audit key.
  await query(await url, 'delete from service_secrets')
  t.match(await check(t, local), { code: 0, statuses: statuses() })
  const password = join(dir, 'postgres-password')
  const stored = readFileSync(password)
  writeFileSync(password, canary('password'))
  t.match(await check(t, local), { code: 1, statuses: statuses(noDatabase), texts: { database: /SQLSTATE 28P01/ } })
  writeFileSync(password, stored)

  child.kill('SIGTERM')
  await once(child, 'exit')
  await postmasterOf(dir).stop()
  const files = readdirSync(dir)
  const log = logOf(dir)
  t.match(await check(t, local), { code: 0, statuses: unread, texts: { database: /is not started for a check/ } })
  t.same([readdirSync(dir), logOf(dir)], [files, log], 'nothing is started')
  // Another process may have the id of a postmaster that was killed.
  writeFileSync(join(dir, 'postgres/postmaster.pid'), `${process.pid}\n${dir}\n0\n1\n\n127.0.0.1\n\nready   \n`)
  t.match(await check(t, local), { code: 0, statuses: unread })
})

await t.test('files of an embedded database that cannot be read are reported', async (t) => {
  const { env } = await startPatient(t)
  const dir = t.testdir({ postgres: t.fixture('symlink', 'gone'), file: '' })
  const local = { ...env, DATABASE_URL: 'embedded' }
  for (const [DATA_DIR, reason] of [[dir, 'ENOENT'], [join(dir, 'file'), 'ENOTDIR']] as const) {
    t.match(await check(t, { ...local, DATA_DIR }), {
      code: 1,
      statuses: statuses(noDatabase),
      texts: { database: new RegExp(`cannot be read \\(${reason}\\)\\. Run this as the user`) }
    })
  }
})
