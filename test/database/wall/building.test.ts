import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { migrate } from '../../../src/database/migrations/migrations.js'
import { roleName, wallRoles } from '../../../src/database/wall/grants.js'
import { buildTestApp, connect, createDatabase, query } from '../../helper.js'

/** A database of a login that is no superuser, and a prefix whose roles are dropped when the test ends. */
async function ownDatabase (t: Test, rights: string) {
  const admin = await createDatabase(t, { empty: true })
  const rolePrefix = `wtc_test_${randomBytes(6).toString('hex')}`
  const login = `${rolePrefix}_login`
  await query(admin, `create role ${login} login password 'own' ${rights}`)
  await query(admin, `alter database ${new URL(admin).pathname.slice(1)} owner to ${login}`)
  const names = [...wallRoles, 'audit' as const].map((role) => roleName(rolePrefix, role))
  t.teardown(async () => {
    await query(admin, `reassign owned by ${login} to current_user; drop owned by ${login}`)
    const found = await query(admin, 'select rolname as name from pg_roles where rolname = any($1)', [names])
    for (const { name } of found) {
      await query(admin, `reassign owned by ${String(name)} to current_user; drop owned by ${String(name)}`)
      await query(admin, `drop role ${String(name)}`)
    }
    await query(admin, `drop role ${login}`)
  })
  const url = Object.assign(new URL(admin), { username: login, password: 'own' }).href
  const settings = { DATABASE_URL: url, DATABASE_ROLE_PREFIX: rolePrefix, DATABASE_WALL: 'required' }
  return { admin, url, login, rolePrefix, settings }
}

/** Migrates, and returns the lines for a person. */
async function migrated (url: string, rolePrefix: string): Promise<string> {
  const lines: string[] = []
  await migrate(url, { rolePrefix, report: (line) => { lines.push(line) } })
  return lines.join('\n')
}

const sqlOf = (message: string) => message.split('\n').filter((line) => line.startsWith('  ')).join('\n')

await t.test('an owner who may create roles builds the whole wall, and the service works behind it', async (t) => {
  const { admin, url, rolePrefix, settings } = await ownDatabase(t, 'createrole')
  t.equal(await migrated(url, rolePrefix), '')
  const { app, as } = await buildTestApp(t, settings)
  const post = { method: 'POST', url: '/api/v1/tenant/config', payload: { waba_id: '1' }, headers: as('acme') } as const
  t.equal((await app.inject(post)).statusCode, 201)
  const owners = "select pg_get_userbyid(relowner) as name from pg_class where relname = 'audit_log'"
  const [owner] = await query(admin, owners)
  t.same(owner, { name: `${rolePrefix}_audit` })
  t.strictSame(
    await query(url, "select pg_has_role($1, 'USAGE') as works", [`${rolePrefix}_audit`]),
    [{ works: false }],
    'the service never works as the owner of the audit log'
  )
  for (const statement of ['delete from audit_log', "update audit_log set actor = 'x'", 'truncate audit_log']) {
    await t.rejects(query(url, statement), { code: '42501' }, statement)
  }
  t.equal(await migrated(url, rolePrefix), '', 'again')
})

await t.test('a login that may not create roles gets the SQL for somebody who may', async (t) => {
  const { admin, url, login, rolePrefix, settings } = await ownDatabase(t, '')
  const report = await migrated(url, rolePrefix)
  t.match(report, `The wall of the database lacks the role ${rolePrefix}_audit and `)
  await t.rejects(buildTestApp(t, settings), { message: /create role[^]+DATABASE_WALL=if-possible/ })
  const { app, as, log } = await buildTestApp(t, { ...settings, DATABASE_WALL: 'if-possible' })
  t.match(log(), 'Until then only the queries of the service keep the tenants apart.')
  t.equal((await app.inject({ url: '/api/v1/tenant/config', headers: as('acme') })).statusCode, 404)

  await query(admin, sqlOf(report).replaceAll('"postgres"', `"${login}"`))
  await t.resolves(buildTestApp(t, settings), 'the printed SQL is the whole wall')
  await query(admin, `revoke ${rolePrefix}_tenant from ${login}`)
  await t.rejects(buildTestApp(t, settings), { message: `lacks the membership of ${login} in ${rolePrefix}_tenant.` })
})

await t.test('a login that came after the wall is refused, since it would see no row', async (t) => {
  const { admin, url, rolePrefix, settings } = await ownDatabase(t, 'createrole')
  await migrated(url, rolePrefix)
  const late = `${rolePrefix}_late`
  await query(admin, `create role ${late} login password 'late'; grant all on all tables in schema public to ${late};
    grant usage on schema drizzle to ${late}; grant select on all tables in schema drizzle to ${late}`)
  t.teardown(async () => await query(admin, `drop owned by ${late}; drop role ${late}`))
  const DATABASE_URL = Object.assign(new URL(admin), { username: late, password: 'late' }).href
  await t.rejects(
    buildTestApp(t, { ...settings, DATABASE_URL, DATABASE_WALL: 'if-possible' }),
    { message: 'alter policy wall_others on "tenant_configs" to' }
  )
})

await t.test('a user with a grant sees every row as before: a former version may still serve', async (t) => {
  const { admin, url, rolePrefix } = await ownDatabase(t, 'createrole')
  const former = `${rolePrefix}_former`
  await query(admin, `create role ${former} login password 'former'`)
  t.teardown(async () => await query(admin, `drop owned by ${former}; drop role ${former}`))
  await query(url, `alter default privileges grant all on tables to ${former}`)
  await migrated(url, rolePrefix)
  await query(admin, "insert into tenant_configs (tenant_id) values ('a'), ('b')")
  const asFormer = Object.assign(new URL(admin), { username: former, password: 'former' }).href
  t.equal((await query(asFormer, 'select from tenant_configs')).length, 2)
  t.equal((await query(url, 'select from tenant_configs')).length, 2)
})

await t.test('a wall that waits for a lock too long is left for the next run', async (t) => {
  const { admin, url, rolePrefix } = await ownDatabase(t, 'createrole')
  await migrate(admin)
  const reader = await connect(t, admin)
  await reader.query('begin; lock table tenant_configs in access share mode')
  await t.rejects(migrate(admin, { rolePrefix, timeoutMs: 100 }), /^The wall: no lock within 0 s/)
  await reader.query('commit')
  t.equal(await migrated(admin, rolePrefix), '')
  t.ok(url)
})

await t.test('two databases of a cluster build their walls of the same roles at once', async (t) => {
  const { admin, rolePrefix } = await ownDatabase(t, '')
  const other = await createDatabase(t)
  t.strictSame(await Promise.all([migrated(admin, rolePrefix), migrated(other, rolePrefix)]), ['', ''])
})
