import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { drizzle } from 'drizzle-orm/node-postgres'
import { migrate as drizzleMigrate } from 'drizzle-orm/node-postgres/migrator'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { migrate, pendingMigrations, rollback } from '../../../src/database/migrations/migrations.js'
import { firstMigrations, formerSchema, ownMigrations, tags } from '../../fixtures/migrations.js'
import { connect, createDatabase, query } from '../../helper.js'

const yes = async () => true
const OURS = 'drizzle.__whatsapp_tenant_config_migrations'
const SHARED = 'drizzle.__drizzle_migrations'
const all = async (url: string, journal: string) => await query(
  url,
  `select hash, created_at from ${journal} order by created_at`
)

const { entries }: { entries: Array<{ tag: string, when: number }> } = JSON.parse(
  readFileSync('drizzle/meta/_journal.json', 'utf8')
)
const expected = entries.map(({ tag, when }) => ({
  hash: createHash('sha256').update(readFileSync(`drizzle/${tag}.sql`)).digest('hex'),
  created_at: String(when)
}))

/** Applies the migration of another drizzle application, which creates `theirs` and is newer than any of ours. */
async function otherApplication (t: Test, url: string): Promise<void> {
  const migrationsFolder = ownMigrations(t, { '0000_theirs': 'create table theirs (id int);' }, {}, 9_000_000_000_000)
  await drizzleMigrate(drizzle(await connect(t, url)), { migrationsFolder })
}

await t.test('the journal of another drizzle application in the same database is not touched', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await otherApplication(t, url)
  const theirs = await all(url, SHARED)
  t.same(await pendingMigrations(drizzle(await connect(t, url))), tags)
  t.same(await migrate(url), tags)
  t.same(await all(url, OURS), expected)
  t.same(await all(url, SHARED), theirs, 'the shared journal did not change')
  t.same(await migrate(url), [])
  for (const tag of tags.toReversed()) t.equal(await rollback(url, yes), tag)
  t.equal(await rollback(url, yes), null, 'no foreign migration is undone')
  t.same(await all(url, SHARED), theirs)
})

await t.test('journal entries of a former version are copied, and foreign entries are ignored', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await formerSchema(t, url)
  await otherApplication(t, url)
  await query(
    url,
    `insert into ${SHARED} (hash, created_at) values ('theirs', ${entries[3]?.when}), ('${expected[4]?.hash}', 5)`
  )
  const shared = await all(url, SHARED)
  t.same(
    await pendingMigrations(drizzle(await connect(t, url))),
    tags.slice(3),
    'the shared journal counts before the copy'
  )
  t.same(await migrate(url), tags.slice(3))
  t.same(await all(url, OURS), expected)
  t.same(await all(url, SHARED), shared)

  // The copy happens once: later entries of the shared journal are ignored.
  await query(url, `delete from ${OURS} where created_at >= ${entries[5]?.when}`)
  await query(
    url,
    `insert into ${SHARED} (hash, created_at) values ('${expected[5]?.hash}', ${expected[5]?.created_at})`
  )
  t.same(await pendingMigrations(drizzle(await connect(t, url))), tags.slice(5))
})

await t.test('a former version applies nothing after an upgrade, but does after an undo', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await formerSchema(t, url)
  await migrate(url)
  // It would fail if it applied a migration twice.
  await formerSchema(t, url)
  for (const tag of tags.slice(2).toReversed()) t.equal(await rollback(url, yes), tag)
  t.same((await all(url, SHARED)).length, 2)
  await formerSchema(t, url)
  t.same((await all(url, SHARED)).length, 3, 'the former version applies 0002 again')
})

await t.test('a role that cannot read the shared journal or create a schema can migrate', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await otherApplication(t, url)
  const role = `${new URL(url).pathname.slice(1)}_role`
  await query(
    url,
    `create role ${role} login password 'role'; grant create, usage on schema public, drizzle to ${role}`
  )
  t.teardown(async () => await query(url, `drop owned by ${role}; drop role ${role}`))
  const own = Object.assign(new URL(url), { username: role, password: 'role' })
  t.same(await migrate(own.href), tags)
  t.equal(await rollback(own.href, yes), tags.at(-1))
})

await t.test('each undo restores the schema before its migration, trigger states included', async (t) => {
  const url = await createDatabase(t, { empty: true })
  const schema = async () => await query(url, `
    select relname, tgname as name, pg_get_triggerdef(pg_trigger.oid) as definition, tgenabled::text as state
      from pg_trigger join pg_class on pg_class.oid = tgrelid where not tgisinternal
    union all select '', proname, pg_get_functiondef(oid), '' from pg_proc where pronamespace = 'public'::regnamespace
    union all select tablename, indexname, indexdef, '' from pg_indexes where schemaname = 'public' order by 1, 2`)
  const stages: unknown[] = []
  for (const count of tags.keys()) {
    stages.push(await schema())
    await migrate(url, { folder: firstMigrations(t, count + 1) })
  }
  for (const tag of tags.toReversed()) {
    t.equal(await rollback(url, yes), tag)
    t.same(await schema(), stages.pop(), tag)
  }
})

await t.test('an undo of 0004 keeps a number at its verified tenant, else at the oldest', async (t) => {
  const url = await createDatabase(t, { empty: true })
  await migrate(url)
  await query(url, `
    insert into tenant_configs (tenant_id, waba_id, phone_number_id, last_verified_at) values
    ('squatter', '1', '1', null), ('owner', '1', '1', now()), ('first', '2', '2', null), ('second', '2', '2', null),
    ('none', null, null, null)`)
  for (const tag of tags.slice(4).toReversed()) t.equal(await rollback(url, yes), tag)
  const left = await query(url, 'select tenant_id, phone_number_id from tenant_configs order by id')
  t.same(
    left.map(({ tenant_id: tenant, phone_number_id: number }) => [tenant, number]),
    [['squatter', null], ['owner', '1'], ['first', '2'], ['second', null], ['none', null]]
  )
  t.same(await migrate(url), tags.slice(4))
})
