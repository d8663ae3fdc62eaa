import { readdirSync, readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { drizzle } from 'drizzle-orm/node-postgres'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { migrate, pendingMigrations, rollback } from '../../../src/database/migrations/migrations.js'
import { buildTestApp, connect, createDatabase, query, untilWaiting } from '../../helper.js'

const entries: { tag: string, when: number }[] = JSON.parse(readFileSync('drizzle/meta/_journal.json', 'utf8')).entries
const tags = entries.map(({ tag }) => tag)
const yes = async () => true

/** The whole schema `public`, as PostgreSQL describes it. */
async function dump (url: string): Promise<unknown> {
  return await query(url, `
    select c.relname as owner, 'column' as kind, a.attname as name, concat_ws(' ',
        row_number() over (partition by a.attrelid order by a.attnum), format_type(a.atttypid, a.atttypmod),
        a.attnotnull, pg_get_expr(d.adbin, d.adrelid)) as definition
      from pg_attribute a join pg_class c on c.oid = a.attrelid
        left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      where c.relnamespace = 'public'::regnamespace and a.attnum > 0 and not a.attisdropped
    union all select tablename, 'index', indexname, indexdef from pg_indexes where schemaname = 'public'
    union all select conrelid::regclass::text, 'constraint', conname, pg_get_constraintdef(oid)
      from pg_constraint where connamespace = 'public'::regnamespace
    union all select tgrelid::regclass::text, 'trigger', tgname, pg_get_triggerdef(oid)
      from pg_trigger where not tgisinternal
    union all select '', 'function', proname, pg_get_functiondef(oid)
      from pg_proc where pronamespace = 'public'::regnamespace
    order by 1, 2, 3`)
}

async function pending (t: Test, url: string): Promise<string[]> {
  return await pendingMigrations(drizzle(await connect(t, url)))
}

/** Undoes all migrations and returns their names. */
async function undoAll (url: string): Promise<string[]> {
  const undone: string[] = []
  for (let name = await rollback(url, yes); name !== null; name = await rollback(url, yes)) undone.push(name)
  return undone
}

await t.test('migrating, undoing all and migrating again results in the same schema', async (t) => {
  const url = await createDatabase(t, { empty: true })
  const before = await dump(url)
  t.same(await pending(t, url), tags)
  t.same(await migrate(url), tags)
  const first = await dump(url)
  t.same(await migrate(url), [], 'a second migrate applies nothing')
  t.same(await dump(url), first)

  t.same(await rollback(url, yes), tags.at(-1))
  t.same(await pending(t, url), tags.slice(-1))
  t.same(await undoAll(url), tags.slice(0, -1).reverse())
  t.same(await dump(url), before, 'the undo removed everything')
  t.same(await migrate(url), tags)
  t.same(await dump(url), first)
})

await t.test('five concurrent migrations succeed, and one does the work', async (t) => {
  const url = await createDatabase(t, { empty: true })
  const results = await Promise.all(Array.from({ length: 5 }, async () => await migrate(url)))
  t.same(results.filter(({ length }) => length > 0), [tags])
  t.same(await pending(t, url), [])
})

await t.test('a rollback asks for confirmation, and `no` changes nothing', async (t) => {
  const url = await createDatabase(t)
  await query(url, "insert into tenant_configs (tenant_id) values ('acme')")
  const first = await dump(url)
  const asked: string[] = []
  t.equal(await rollback(url, async (name) => { asked.push(name); return false }), null)
  t.same(asked, tags.slice(-1))
  await t.rejects(rollback(url, async () => { throw new Error('hung up') }), new Error('hung up'))
  t.same(await dump(url), first)
  t.same(await pending(t, url), [])
  t.match(await query(url, 'select tenant_id from tenant_configs'), [{ tenant_id: 'acme' }])
})

await t.test('a rollback undoes nothing if its migration is no longer the newest', async (t) => {
  const url = await createDatabase(t)
  t.equal(await rollback(url, async () => (await migrate(url)).length === 0), tags.at(-1))
  await migrate(url)
  const asked = async () => (await rollback(url, yes)) !== null
  await t.rejects(
    rollback(url, asked),
    new Error(`${tags.at(-1)} is no longer the newest migration of the database: nothing was undone.`)
  )
  t.same(await pending(t, url), tags.slice(-1), 'one was undone, not two')
})

await t.test('a migration that waits for another one without an end fails with an error', async (t) => {
  const url = await createDatabase(t)
  const lockHolder = await connect(t, url)
  await lockHolder.query("select pg_advisory_lock(hashtext('whatsapp-tenant-config migrations'))")
  const message = 'Another process migrates this database, or undoes a migration, and has not finished within 10 ' +
    'seconds. Let it finish or end it, then try again.'
  const lost = t.rejects(migrate(url), /rollback|terminat/)
  await untilWaiting(url, 1)
  await query(
    url,
    'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and wait_event_type = ' +
      "'Lock'"
  )
  await lost
  await Promise.all([
    t.rejects(migrate(url), new Error(message)),
    t.rejects(rollback(url, yes), new Error(message)),
    t.rejects(buildTestApp(t, { DATABASE_URL: url, MIGRATE_ON_START: true }), new Error(message))
  ])
  await lockHolder.end()
  t.same(await migrate(url), [])
})

await t.test('a rollback with nothing to undo asks for no confirmation', async (t) => {
  const url = await createDatabase(t, { empty: true })
  const ask = async () => { throw new Error('asked') }
  t.equal(await rollback(url, ask), null)
  await migrate(url)
  await undoAll(url)
  t.equal(await rollback(url, ask), null)
})

await t.test('an undo that fails half way undoes nothing', async (t) => {
  const url = await createDatabase(t, { watched: true })
  await query(url, 'create view dependent as select key_id from vault_keys')
  const first = await dump(url)
  await t.rejects(undoAll(url), { cause: { code: '2BP01' } })
  t.same(await pending(t, url), tags.slice(1))
  await migrate(url)
  t.same(await dump(url), first)
})

await t.test('each migration has its undo', async (t) => {
  const sqlIn = (folder: string) =>
    readdirSync(folder).filter((name) => name.endsWith('.sql')).map((name) => basename(name, '.sql')).sort()
  t.same(sqlIn('drizzle'), tags)
  t.same(sqlIn('drizzle/rollback'), tags)
})

await t.test('a start with missing migrations is refused and names the command', async (t) => {
  const url = await createDatabase(t, { empty: true })
  const message = `The database lacks the migrations ${tags.join(', ')}. ` +
    'Apply them with `npm run db:migrate`, or set MIGRATE_ON_START=true.'
  await t.rejects(buildTestApp(t, { DATABASE_URL: url }), { message })
  t.same(await dump(url), [], 'the refused start changed nothing')

  const both = await Promise.all(
    [1, 2].map(async () => await buildTestApp(t, { DATABASE_URL: url, MIGRATE_ON_START: true }))
  )
  const applied = both.map(({ log }) => [...log().matchAll(/applied migration (\w+)/g)].map(([, name]) => name))
  t.same(applied.filter(({ length }) => length > 0), [tags], 'both instances start, and one migrates')
})

await t.test('a start migrates through DATABASE_DIRECT_URL, and refuses another database', async (t) => {
  const url = await createDatabase(t, { empty: true })
  const other = await createDatabase(t, { empty: true })
  const settings = { DATABASE_URL: url, DATABASE_DIRECT_URL: other, MIGRATE_ON_START: true }
  await t.rejects(
    buildTestApp(t, settings),
    /^The database lacks the migrations .* DATABASE_DIRECT_URL: it must lead to the same database/
  )
  t.same([await pending(t, url), await pending(t, other)], [tags, []])

  const direct = new URL(url)
  direct.searchParams.set('options', '-c work_mem=1234kB')
  await query(
    url,
    'create table seen (memory text); create function seen() returns event_trigger language plpgsql as $$ begin ' +
      "insert into public.seen values (current_setting('work_mem')); end $$; create event trigger seen on " +
        'ddl_command_end execute function seen()'
  )
  const { log } = await buildTestApp(t, { ...settings, DATABASE_DIRECT_URL: direct.href })
  t.same(await query(url, 'select distinct memory from seen'), [{ memory: '1234kB' }])
  t.match(log(), `applied migration ${tags.at(-1)}`)

  for (let undone = null; undone !== '0011_resealing';) undone = await rollback(url, yes)
  const lockHolder = await connect(t, url)
  await lockHolder.query('begin; lock table tenant_configs in row exclusive mode')
  setTimeout(() => { lockHolder.query('commit').catch(t.fail) }, 2000)
  t.match(
    (await buildTestApp(t, { DATABASE_URL: url, MIGRATE_ON_START: true })).log(),
    /"level":30[^\n]*0011_resealing: waiting for a lock/
  )
})

await t.test('a database with another encoding than UTF8 is refused', async (t) => {
  const url = new URL(await createDatabase(t, { empty: true }))
  const name = `${url.pathname.slice(1)}_latin1`
  await query(url.href, `create database ${name} encoding 'LATIN1' locale_provider libc locale 'C' template template0`)
  t.teardown(async () => await query(url.href, `drop database ${name} with (force)`))
  await t.rejects(
    buildTestApp(t, { DATABASE_URL: Object.assign(new URL(url), { pathname: `/${name}` }).href }),
    /not encoded in UTF8/
  )
})

await t.test('a service starts on a newer schema, and the rollback of that schema is refused', async (t) => {
  const url = await createDatabase(t)
  await query(url, 'alter table tenant_configs add column of_the_future text')
  await query(
    url,
    "insert into drizzle.__whatsapp_tenant_config_migrations (hash, created_at) values ('future', 9999999999999)"
  )
  const { app } = await buildTestApp(t, { DATABASE_URL: url })
  t.equal((await app.inject('/health/ready')).statusCode, 200)
  t.same(await migrate(url), [])
  await t.rejects(rollback(url, yes), /not one of this version/)
})
