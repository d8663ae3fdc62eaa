import t from '../../run/tap.js'
import { connect } from '../../helper.js'
import { ANY, change, createChangeListener, insert, sorted } from './change-listener.js'

await t.test('a statement notifies once of the old and new ids of its rows', async (t) => {
  const { payloadsOf } = await createChangeListener(t)
  t.same(await payloadsOf(`${insert} values ('a', '1', '10')`), [[change('a', '1', '10')]])
  t.same(
    await payloadsOf(`${insert} values ('b', null, null), ('c', '3', null)`),
    [[change('b', null, null), change('c', '3', null)]]
  )
  t.same(
    await payloadsOf("update tenant_configs set is_active = false where tenant_id = 'a'"),
    [[change('a', '1', '10')]],
    'unchanged ids are named once'
  )
  t.same(
    await payloadsOf("update tenant_configs set phone_number_id = '2', waba_id = null where tenant_id = 'a'"),
    [[change('a', '1', '10'), change('a', '2', null)]]
  )
  t.same(
    await payloadsOf("update tenant_configs set tenant_id = 'z' where tenant_id = 'a'"),
    [[change('a', '2', null), change('z', '2', null)]]
  )
  t.same(await payloadsOf("update tenant_configs set waba_id = '9'"), [
    [
      change('b', null, '9'), change('b', null, null), change('c', '3', '9'), change('c', '3', null),
      change('z', '2', '9'), change('z', '2', null)
    ]
  ])
  t.same(
    await payloadsOf("delete from tenant_configs where tenant_id <> 'b'"),
    [[change('c', '3', '9'), change('z', '2', '9')]]
  )
  t.same(await payloadsOf('truncate tenant_configs'), [ANY])
  t.same(await payloadsOf('truncate tenant_configs'), [ANY], 'an empty table notifies too')
})

await t.test('a statement that changes nothing notifies nothing', async (t) => {
  const { payloadsOf, writer } = await createChangeListener(t)
  await payloadsOf(`${insert} values ('a', '1', '10')`)
  t.same(await payloadsOf("update tenant_configs set is_active = false where tenant_id = 'nobody'"), [])
  t.same(await payloadsOf('delete from tenant_configs where false'), [])
  t.same(await payloadsOf(`${insert} select 'b', '2', '20' where false`), [])
  t.same(await payloadsOf(`${insert} values ('a', '9', '90') on conflict do nothing`), [])
  t.same(
    await payloadsOf(`
      ${insert} values ('a', '9', '90')
      on conflict (tenant_id) do update set user_id = 'u' where false`),
    []
  )
  t.same(await payloadsOf('select * from tenant_configs for update'), [])
  t.same(
    await payloadsOf(async () => await t.rejects(writer.query(`${insert} values ('a', '1', '20')`), { code: '23505' })),
    [],
    'a refused insert notifies nothing'
  )
})

await t.test('an upsert or a merge notifies of the rows that it inserts, updates or deletes', async (t) => {
  const { payloadsOf, writer } = await createChangeListener(t)
  await payloadsOf(`${insert} values ('a', '1', '10')`)
  t.same(
    await payloadsOf(`${insert} values ('a', '9', '90'), ('b', '2', '20') on conflict (tenant_id) do nothing`),
    [[change('b', '2', '20')]]
  )
  const upsert = 'on conflict (tenant_id) do update set phone_number_id = excluded.phone_number_id'
  t.same(
    await payloadsOf(`${insert} values ('c', '3', '30') ${upsert}`),
    [[change('c', '3', '30')]],
    'the upsert inserts'
  )
  t.same(
    await payloadsOf(`${insert} values ('a', '4', '90') ${upsert}`),
    [[change('a', '1', '10'), change('a', '4', '10')]],
    'the upsert updates'
  )
  const both = await payloadsOf(`${insert} values ('a', '5', '0'), ('d', '6', '60') ${upsert}`)
  t.same(
    sorted(both.flat()),
    [change('a', '4', '10'), change('a', '5', '10'), change('d', '6', '60')],
    'the upsert does both'
  )

  const { rows: [{ version }] } = await writer.query("select current_setting('server_version_num')::int as version")
  if (version < 150000) return
  t.same(sorted((await payloadsOf(`
    merge into tenant_configs using (values ('a', '7'), ('b', null), ('e', '8')) as wanted (id, phone)
      on tenant_id = wanted.id
      when matched and wanted.phone is null then delete
      when matched then update set phone_number_id = wanted.phone
      when not matched then insert (tenant_id, phone_number_id) values (wanted.id, wanted.phone)`)).flat()), [
    change('a', '5', '10'), change('a', '7', '10'), change('b', '2', '20'), change('e', '8', null)
  ], 'a merge does all three')
})

await t.test('a transaction notifies at commit, once per distinct change; a rollback never', async (t) => {
  const { payloadsOf, writer, url } = await createChangeListener(t)
  const sets = async (...statements: string[]) => await payloadsOf(async () => {
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
  t.equal((await sets('begin', ...moves, 'commit')).length, 50, 'each change is notified')

  await writer.query('begin')
  await writer.query('delete from tenant_configs')
  const listener = await connect(t, url)
  const early: unknown[] = []
  listener.on('notification', (notification) => { early.push(notification) })
  await listener.query('listen tenant_configs')
  await listener.query('select 1')
  t.same(early, [], 'nothing arrives before the commit')
  t.same(await payloadsOf('commit'), [[change('b', 'n49', '20')]])
})

await t.test('several writes in one statement or routine notify once of each row', async (t) => {
  const { payloadsOf } = await createChangeListener(t)
  t.same(
    sorted(
      (await payloadsOf(
        `with one as (${insert} values ('a', '1', '10') returning id) ${insert} select 'b', '2', '20' from one`
      )).flat()
    ),
    [change('a', '1', '10'), change('b', '2', '20')]
  )
  t.same(
    await payloadsOf(
      "do $$ begin for i in 1..40 loop update tenant_configs set user_id = i where tenant_id = 'a'; end loop; end $$"
    ),
    [[change('a', '1', '10')]]
  )
})
