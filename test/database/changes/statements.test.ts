import { EventEmitter, once } from 'node:events'
import { drizzle } from 'drizzle-orm/node-postgres'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { migrate, pendingMigrations, rollback } from '../../../src/database/migrations/migrations.js'
import { firstMigrations, tags } from '../../fixtures/migrations.js'
import { connect, createDatabase, query } from '../../helper.js'

const [, second, third] = tags
const ANY = ''

/**
 * A migrated database with a writer and a listener. `told` returns the notifications of a piece of work, each with
 * sorted rows.
 */
async function listened (t: Test, url?: string) {
  const databaseUrl = url ?? await createDatabase(t)
  const writer = await connect(t, databaseUrl)
  const listener = await connect(t, databaseUrl)
  await listener.query('listen tenant_configs; listen done')
  const heard: unknown[] = []
  const markers = new EventEmitter()
  listener.on('notification', ({ channel, payload = '' }) => {
    if (channel === 'done') markers.emit('done')
    else heard.push(payload === ANY ? ANY : sorted(JSON.parse(payload)))
  })

  /**
   * Executes the work and returns the payloads. Notifications arrive in commit order, so a final marker shows that none
   * is missing.
   */
  async function told (work: string | (() => Promise<unknown>), values?: unknown[]): Promise<unknown[]> {
    await (typeof work === 'string' ? writer.query(work, values) : work())
    const done = once(markers, 'done')
    await writer.query('notify done')
    await done
    return heard.splice(0)
  }
  return { writer, told, url: databaseUrl }
}

const sorted = (rows: unknown[]) => rows.map((row) => JSON.stringify(row)).sort().map((row): unknown => JSON.parse(row))
const change = (...ids: unknown[]) => ids
const rows = (from: number, to: number) =>
  `select 't' || n, 'p' || n, 'w' || n % 3 from generate_series(${from}, ${to}) as n`
const insert = 'insert into tenant_configs (tenant_id, phone_number_id, waba_id)'

await t.test('a statement notifies once of the old and new ids of its rows', async (t) => {
  const { told } = await listened(t)
  t.same(await told(`${insert} values ('a', '1', '10')`), [[change('a', '1', '10')]])
  t.same(
    await told(`${insert} values ('b', null, null), ('c', '3', null)`),
    [[change('b', null, null), change('c', '3', null)]]
  )
  t.same(
    await told("update tenant_configs set is_active = false where tenant_id = 'a'"),
    [[change('a', '1', '10')]],
    'what stays is told once'
  )
  t.same(
    await told("update tenant_configs set phone_number_id = '2', waba_id = null where tenant_id = 'a'"),
    [[change('a', '1', '10'), change('a', '2', null)]]
  )
  t.same(
    await told("update tenant_configs set tenant_id = 'z' where tenant_id = 'a'"),
    [[change('a', '2', null), change('z', '2', null)]]
  )
  t.same(await told("update tenant_configs set waba_id = '9'"), [
    [
      change('b', null, '9'), change('b', null, null), change('c', '3', '9'), change('c', '3', null),
      change('z', '2', '9'), change('z', '2', null)
    ]
  ])
  t.same(
    await told("delete from tenant_configs where tenant_id <> 'b'"),
    [[change('c', '3', '9'), change('z', '2', '9')]]
  )
  t.same(await told('truncate tenant_configs'), [ANY])
  t.same(await told('truncate tenant_configs'), [ANY], 'also of an empty table')
})

await t.test('a statement that changes nothing notifies nothing', async (t) => {
  const { told, writer } = await listened(t)
  await told(`${insert} values ('a', '1', '10')`)
  t.same(await told("update tenant_configs set is_active = false where tenant_id = 'nobody'"), [])
  t.same(await told('delete from tenant_configs where false'), [])
  t.same(await told(`${insert} select 'b', '2', '20' where false`), [])
  t.same(await told(`${insert} values ('a', '9', '90') on conflict do nothing`), [])
  t.same(
    await told(`${insert} values ('a', '9', '90') on conflict (tenant_id) do update set user_id = 'u' where false`),
    []
  )
  t.same(await told('select * from tenant_configs for update'), [])
  t.same(
    await told(async () => await t.rejects(writer.query(`${insert} values ('a', '1', '20')`), { code: '23505' })),
    [],
    'a tenant that has a row'
  )
})

await t.test('an upsert or a merge notifies of the rows that it inserts, updates or deletes', async (t) => {
  const { told, writer } = await listened(t)
  await told(`${insert} values ('a', '1', '10')`)
  t.same(
    await told(`${insert} values ('a', '9', '90'), ('b', '2', '20') on conflict (tenant_id) do nothing`),
    [[change('b', '2', '20')]]
  )
  const upsert = 'on conflict (tenant_id) do update set phone_number_id = excluded.phone_number_id'
  t.same(await told(`${insert} values ('c', '3', '30') ${upsert}`), [[change('c', '3', '30')]], 'it inserts')
  t.same(
    await told(`${insert} values ('a', '4', '90') ${upsert}`),
    [[change('a', '1', '10'), change('a', '4', '10')]],
    'it updates'
  )
  const both = await told(`${insert} values ('a', '5', '0'), ('d', '6', '60') ${upsert}`)
  t.same(sorted(both.flat()), [change('a', '4', '10'), change('a', '5', '10'), change('d', '6', '60')], 'it does both')

  const { rows: [{ version }] } = await writer.query("select current_setting('server_version_num')::int as version")
  if (version < 150000) return
  t.same(sorted((await told(`
    merge into tenant_configs using (values ('a', '7'), ('b', null), ('e', '8')) as wanted (id, phone) on tenant_id = wanted.id
      when matched and wanted.phone is null then delete
      when matched then update set phone_number_id = wanted.phone
      when not matched then insert (tenant_id, phone_number_id) values (wanted.id, wanted.phone)`)).flat()), [
    change('a', '5', '10'), change('a', '7', '10'), change('b', '2', '20'), change('e', '8', null)
  ], 'a merge')
})

await t.test('up to 32 changed rows are named; more cause one notification without names', async (t) => {
  const { told, writer } = await listened(t)
  const named = sorted(Array.from({ length: 32 }, (_, i) => change(`t${i + 1}`, `p${i + 1}`, `w${(i + 1) % 3}`)))
  t.same(await told(`${insert} ${rows(1, 32)}`), [named])
  t.same(await told('update tenant_configs set user_id = tenant_id'), [named])
  t.equal((await told('update tenant_configs set waba_id = null')).flat().length, 64, 'as they were, and as they are')
  t.same(await told(`${insert} ${rows(33, 65)}`), [ANY])
  t.same(await told('update tenant_configs set is_active = false'), [ANY])
  t.same(await told(`${insert} ${rows(66, 20_000)}`), [ANY])
  t.same(await told("delete from tenant_configs where tenant_id <> 't1'"), [ANY])
  t.same(await told('delete from tenant_configs'), [[change('t1', 'p1', null)]])

  const copy = async (text: string) => await writer.query(
    `copy tenant_configs (tenant_id, phone_number_id) from program '${text}'`
  )
  t.same(
    await told(async () => await copy('printf "c1\\\\tp1\\nc2\\\\tp2\\n"')),
    [[change('c1', 'p1', null), change('c2', 'p2', null)]]
  )
  t.same(await told(async () => await copy('seq 1000 1999 | sed "s/\\(.*\\)/x\\1\\\\ty\\1/"')), [ANY])
})

await t.test('ids with any characters arrive unchanged', async (t) => {
  const { told } = await listened(t)
  const byOne = async (ids: unknown[]) => await told(`${insert} values ($1, $2, $3)`, ids)
  for (const ids of [
    ['"', '\\', '\\"'], ["'; drop table tenant_configs --", '$$', '%s'], ['[', ']]', ',"'], [' ', '', 'null'],
    ['\u0001\u001f\u007f\u0080', '\n\r\t\b\f', '\u2028\u2029\u202e'], ['ä', 'é', 'e\u0301'], ['true', '1e9', '{}'],
    ['\u{10FFFF}', '\uFEFF', '\uFFFD']
  ]) t.same(await byOne(ids), [[ids]])

  const longest = (filling: string) => [filling.repeat(100), filling.repeat(255), filling.repeat(255)]
  for (const filling of ['💬', '"', '\u0001']) {
    const ids = longest(filling)
    t.same(await byOne(ids), [[ids]], 'of full length')
    t.same(
      await told('update tenant_configs set waba_id = null where tenant_id = $1', [ids[0]]),
      [sorted([ids, [ids[0], ids[1], null]])]
    )
    await told('delete from tenant_configs where tenant_id = $1', [ids[0]])
  }
})

await t.test('a payload too long for PostgreSQL is sent empty, and the write succeeds', async (t) => {
  const { told, url } = await listened(t)
  const wide = (n: number) => change(n + '💬'.repeat(99), n + '💬'.repeat(254), '💬'.repeat(255))
  const bytes = (all: unknown[][]) => Buffer.byteLength(
    `[${all.map((ids) => `[${ids.map((id) => JSON.stringify(id)).join(', ')}]`).join(', ')}]`
  )
  const values = (all: unknown[][]) => all.map((_, i) => `($${3 * i + 1}, $${3 * i + 2}, $${3 * i + 3})`).join()
  const last = (length: number) => [wide(1), wide(2), wide(3), change('t', 'ä'.repeat(255), 'x'.repeat(length))]
  const room = 7999 - bytes(last(0))
  t.ok(room > 0 && room < 255, String(room))
  const fits = last(room)
  t.equal(bytes(fits), 7999)
  t.same(await told(`${insert} values ${values(fits)}`, fits.flat()), [sorted(fits)])
  await told('delete from tenant_configs')
  const tooLong = last(room + 1)
  t.equal(bytes(tooLong), 8000)
  t.same(await told(`${insert} values ${values(tooLong)}`, tooLong.flat()), [ANY])
  t.same(await told("update tenant_configs set phone_number_id = null, waba_id = ''"), [ANY])
  t.same(
    await told('delete from tenant_configs where phone_number_id is null'),
    [sorted(tooLong.map(([id]) => change(id, null, '')))]
  )
  t.same(await query(url, 'select tenant_id from tenant_configs'), [])
})

await t.test('a transaction notifies at commit, once per distinct change; a rollback never', async (t) => {
  const { told, writer, url } = await listened(t)
  const sets = async (...statements: string[]) => await told(async () => {
    for (const statement of statements) await writer.query(statement)
  })
  t.same(await sets('begin', `${insert} values ('a', '1', '10')`, 'rollback'), [])
  t.same(
    await sets(
      'begin',
      'savepoint s',
      `${insert} values ('a', '1', '10')`,
      'rollback to s',
      `${insert} values ('b', '2', '20')`,
      'commit'
    ),
    [[change('b', '2', '20')]]
  )
  const touch = "update tenant_configs set user_id = user_id where tenant_id = 'b'"
  t.same(await sets('begin', ...Array.from({ length: 100 }, () => touch), 'commit'), [[change('b', '2', '20')]])
  const moves = Array.from(
    { length: 50 },
    (_, i) => `update tenant_configs set phone_number_id = 'n${i}' where tenant_id = 'b'`
  )
  t.equal((await sets('begin', ...moves, 'commit')).length, 50, 'in their order')

  await writer.query('begin')
  await writer.query('delete from tenant_configs')
  const listener = await connect(t, url)
  const early: unknown[] = []
  listener.on('notification', (notification) => { early.push(notification) })
  await listener.query('listen tenant_configs')
  await listener.query('select 1')
  t.same(early, [], 'not before')
  t.same(await told('commit'), [[change('b', 'n49', '20')]])
})

await t.test('several writes in one statement or routine notify once of each row', async (t) => {
  const { told } = await listened(t)
  t.same(
    sorted(
      (await told(
        `with one as (${insert} values ('a', '1', '10') returning id) ${insert} select 'b', '2', '20' from one`
      )).flat()
    ),
    [change('a', '1', '10'), change('b', '2', '20')]
  )
  t.same(
    await told(
      "do $$ begin for i in 1..40 loop update tenant_configs set user_id = i where tenant_id = 'a'; end loop; end $$"
    ),
    [[change('a', '1', '10')]]
  )
})

await t.test('triggers notify on a replica, under another search path and for another role', async (t) => {
  const { told, writer, url } = await listened(t)
  await writer.query("set session_replication_role = 'replica'")
  t.same(await told(`${insert} values ('a', '1', '10')`), [[change('a', '1', '10')]])
  t.same(await told('update tenant_configs set waba_id = null'), [[change('a', '1', '10'), change('a', '1', null)]])
  t.same(await told('delete from tenant_configs'), [[change('a', '1', null)]])
  t.same(await told('truncate tenant_configs'), [ANY])
  await writer.query("set session_replication_role = 'origin'")

  await writer.query(
    'create temporary table changed (tenant_id text, phone_number_id text, waba_id text); insert into changed values ' +
      "('wrong', 'wrong', 'wrong')"
  )
  await writer.query(
    "create schema evil; create function evil.pg_notify(text, text) returns void language sql as 'select'; create " +
      "function evil.octet_length(text) returns int language sql as 'select 9999'"
  )
  await writer.query('set search_path = evil, pg_temp, public')
  t.same(await told('insert into public.tenant_configs (tenant_id) values ($1)', ['b']), [[change('b', null, null)]])
  await writer.query('reset search_path')

  const role = `${new URL(url).pathname.slice(1)}_writer`
  await writer.query(`create role ${role}; grant select, update on tenant_configs to ${role}; set role ${role}`)
  t.teardown(async () => await query(url, `drop owned by ${role}; drop role ${role}`))
  t.same(await told("update tenant_configs set waba_id = '7'"), [[change('b', null, '7'), change('b', null, null)]])
})

await t.test('the triggers can be added to and removed from a filled database repeatedly', async (t) => {
  const url = await createDatabase(t, { empty: true })
  const options = { folder: firstMigrations(t, 3) }
  const yes = async () => true
  await migrate(url, options)
  t.equal(await rollback(url, yes, options), third)
  const { told, writer } = await listened(t, url)
  t.same(await pendingMigrations(drizzle(writer), options.folder), [third])
  await writer.query(`${insert} ${rows(1, 5000)}`)
  const content = async () => await query(
    url,
    'select md5(string_agg(tenant_configs::text, chr(10) order by id)) as content, count(*)::int as count from ' +
      'tenant_configs'
  )
  const before = await content()
  t.match(before, [{ count: 5000 }])
  const touch = "update tenant_configs set user_id = null where tenant_id = 't1'"
  for (const times of [1, 2]) {
    t.same(await told(touch), [], 'nobody tells')
    t.same(await migrate(url, options), [third], `${times}`)
    t.same(await told(touch), [[change('t1', 'p1', 'w1')]])
    t.equal(await rollback(url, yes, options), third)
  }
  await writer.query('alter table tenant_configs disable trigger user')
  t.match(await content(), [{ count: 5000 }])
  t.equal(await rollback(url, yes, options), second, 'and further back')
})
