import type { Test } from 'tap'
import t from '../../run/tap.js'
import { buildTestApp, connect, createDatabase, query, until } from '../../helper.js'
import { muteChanges, verifyEachRow } from '../../fixtures/verified-rows.js'
import { slowReads } from '../slow-reads.js'

/** Two tenants, each with its token, verified number and account; `psql` writes from outside the service. */
async function createLookedUp (t: Test, env: Record<string, string | number> = {}) {
  const { app, databaseUrl } = await buildTestApp(t, {
    WHATSAPP_PHONE_ID: '99',
    WHATSAPP_TOKEN: 'token of env',
    WHATSAPP_WABA_ID: '99',
    ...env
  })
  const { tenantConfigs, configLoader } = app
  await verifyEachRow(databaseUrl)
  await tenantConfigs.create('a', null, { phone_number_id: '1', waba_id: '7', access_token: 'token of a' })
  await tenantConfigs.create('b', null, { phone_number_id: '2', waba_id: '7', access_token: 'token of b' })
  const on = async (numberId: string) => (await configLoader.forPhoneNumber(numberId))?.getTenantId() ?? null
  const among = async (wabaId: string) => (await configLoader.forWaba(wabaId)).map((snapshot) => snapshot.getTenantId())
  const psql = async (sql: string) => await query(databaseUrl, sql)
  return { tenantConfigs, configLoader, databaseUrl, on, among, psql }
}

await t.test('a number finds its tenant, and an account finds all its tenants', async (t) => {
  const { tenantConfigs, configLoader, on, among } = await createLookedUp(t)
  const snapshot = await configLoader.forPhoneNumber('1')
  t.equal(snapshot, await configLoader.forTenant('a'), 'shared, not copied')
  t.equal(snapshot?.getAccessToken(), 'token of a')
  t.equal(snapshot?.getTenantId(), 'a')
  t.equal(snapshot?.isStale(), false)
  t.strictSame(await configLoader.forWaba('7'), [snapshot, await configLoader.forTenant('b')])
  // The notification of each write invalidates a second time.
  await until(() => configLoader.stats().invalidations >= 5)
  await Promise.all([on('1'), among('7')])
  const { loads } = configLoader.stats()
  for (const times of [1, 2]) t.strictSame([await on('1'), await among('7')], ['a', ['a', 'b']], `again, ${times}`)
  t.equal(configLoader.stats().loads, loads, 'it is cached')
  t.strictSame(configLoader.stats().entries, { tenants: 2, phone_numbers: 1, wabas: 1 })

  for (const times of [1, 2]) {
    t.strictSame([await on('99'), await among('99')], [null, []], `nobody has those of .env, ${times}`)
  }
  t.equal(configLoader.stats().loads, loads + 2, 'that nobody has them is cached too')
  t.equal((await configLoader.forTenant('missing')).getTenantId(), null)

  await tenantConfigs.setActive('a', false)
  await until(async () => await on('1') === null)
  t.strictSame(await among('7'), ['b'])
  await tenantConfigs.setActive('a', true)
  await until(async () => await on('1') === 'a' && (await among('7')).length === 2)
  await tenantConfigs.remove('a')
  await until(async () => await on('1') === null)
  t.strictSame(await among('7'), ['b'])
})

await t.test('an id that no row can have causes no query', async (t) => {
  const { configLoader } = await createLookedUp(t)
  const { misses, loads } = configLoader.stats()
  for (const id of ['', '1\0', '\0', 'x'.repeat(256), '\ud800', '1\n', '\u007f']) {
    t.equal(await configLoader.forPhoneNumber(id), null)
    t.strictSame(await configLoader.forWaba(id), [])
  }
  t.match(configLoader.stats(), { misses, loads, entries: { phone_numbers: 0, wabas: 0 } })
  for (const id of [
    "'; drop table tenant_configs", '__proto__', '👋'.repeat(255), 'x'.repeat(255), '1 ', ' 1', '01', '%'
  ]) {
    t.equal(await configLoader.forPhoneNumber(id), null)
    t.strictSame(await configLoader.forWaba(id), [])
  }
  for (const look of [configLoader.forPhoneNumber, configLoader.forWaba]) {
    const call: (id: unknown) => Promise<unknown> = async (id) => await Reflect.apply(look, configLoader, [id])
    for (const id of [undefined, null, 1, 1n, {}, ['1'], Object('1'), Symbol('1')]) await t.rejects(call(id), TypeError)
  }
})

await t.test('a number that moves finds its new tenant', async (t) => {
  const { tenantConfigs, on, among, psql } = await createLookedUp(t)
  const both = async () => [await on('1'), await on('2')]
  t.strictSame(await both(), ['a', 'b'])
  t.strictSame([await on('3'), await among('8')], [null, []])

  await tenantConfigs.update('a', { phone_number_id: null })
  t.strictSame(await both(), [null, 'b'], 'released here: at once')
  await tenantConfigs.update('b', { phone_number_id: '1' })
  await until(async () => await on('1') === 'b')
  t.strictSame(await both(), ['b', null])

  const moves: [sql: string, expected: [string | null, string | null]][] = [
    [
      'begin; update tenant_configs set phone_number_id = null; update tenant_configs set phone_number_id = case ' +
        "tenant_id when 'a' then '1' else '2' end; commit",
      ['a', 'b']
    ],
    [
      'begin; update tenant_configs set phone_number_id = null; update tenant_configs set phone_number_id = case ' +
        "tenant_id when 'a' then '2' else '1' end; commit",
      ['b', 'a']
    ],
    ["update tenant_configs set is_active = false where tenant_id = 'a'", ['b', null]],
    [
      "begin; delete from tenant_configs where tenant_id = 'b'; update tenant_configs set phone_number_id = '1', " +
        'is_active = true; commit',
      ['a', null]
    ],
    ["update tenant_configs set tenant_id = 'c', access_token = null", ['c', null]],
    ["insert into tenant_configs (tenant_id, waba_id, phone_number_id) values ('d', '7', '2')", ['c', 'd']],
    ['truncate tenant_configs cascade', [null, null]]
  ]
  for (const [sql, [first, second]] of moves) {
    await psql(sql)
    await until(async () => await on('1') === first && await on('2') === second)
    t.strictSame(await both(), [first, second], sql)
  }
  await psql("insert into tenant_configs (tenant_id, waba_id) values ('e', '8'), ('f', '8')")
  await until(async () => (await among('8')).length > 0)
  t.strictSame(await among('8'), ['e', 'f'])
  await psql("update tenant_configs set waba_id = '9' where tenant_id = 'e'")
  await until(async () => (await among('8')).length < 2)
  t.strictSame([await among('8'), await among('9')], [['f'], ['e']])
})

await t.test('an id lookup and a row from before and after a move are not combined', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const { on, among, psql, configLoader, databaseUrl } = await createLookedUp(t, { DATABASE_URL })
  await Promise.all([on('1'), among('7')])
  // Without notifications one of the two cached entries keeps its old value.
  await muteChanges(databaseUrl)
  await psql(
    "begin; update tenant_configs set phone_number_id = null; update tenant_configs set phone_number_id = '1', " +
      "waba_id = '7' where tenant_id = 'b'; update tenant_configs set waba_id = '8' where tenant_id = 'a'; commit"
  )
  const { app } = await buildTestApp(t, { DATABASE_URL })
  t.equal((await app.configLoader.forPhoneNumber('1'))?.getTenantId(), 'b')
  t.strictSame([await on('1'), await among('7')], ['a', ['a', 'b']], 'what is held fits together')
  await configLoader.forTenant('b')
  await psql("select pg_notify('tenant_configs', '[[\"a\", null, null]]')")
  await until(async () => await on('1') === 'b')
  t.strictSame(await among('7'), ['b'])
  const snapshot = await configLoader.forPhoneNumber('1')
  t.equal(snapshot?.getPhoneId(), '1')
  t.equal(snapshot?.isStale(), false)
})

await t.test('a lookup that runs while the number moves returns the new tenant', async (t) => {
  const { on, among, psql, databaseUrl, configLoader } = await createLookedUp(t)
  await slowReads(databaseUrl)
  const holder = await connect(t, databaseUrl)
  await holder.query('select pg_advisory_lock(7)')
  const waiting = Promise.all([on('1'), among('7'), configLoader.forTenant('a')])
  await until(
    async () => (await psql(
      "select count(*)::int as count from pg_locks where locktype = 'advisory' and not granted"
    ))[0]?.['count'] === 3
  )
  const { invalidations } = configLoader.stats()
  await psql(
    "begin; update stored set phone_number_id = null, waba_id = '8' where tenant_id = 'a'; update stored set " +
      "phone_number_id = '1' where tenant_id = 'b'; commit"
  )
  await until(() => configLoader.stats().invalidations >= invalidations + 4)
  await holder.query('select pg_advisory_unlock(7)')
  const [holderOf1, holdersOf7, a] = await waiting
  t.strictSame([holderOf1, holdersOf7, a.getWabaId()], ['b', ['b'], '8'])
})

await t.test('an id always has a tenant while numbers and accounts are swapped continuously', async (t) => {
  const { configLoader, databaseUrl, psql } = await createLookedUp(t)
  await psql("update tenant_configs set waba_id = '8' where tenant_id = 'b'")
  const writer = await connect(t, databaseUrl)
  await until(async () => (await configLoader.forWaba('7')).length === 1)
  const writing = { isDone: false }
  const wrong: unknown[] = []
  const ask = async (numberId: string, wabaId: string) => {
    for (let asked = 0; !writing.isDone; asked++) {
      const snapshots = [await configLoader.forPhoneNumber(numberId), ...await configLoader.forWaba(wabaId)]
      const told = snapshots.map((snapshot) => [snapshot?.getTenantId(), snapshot?.getAccessToken()].join())
      const right = snapshots.length === 2 &&
        told.every((words) => words === 'a,token of a' || words === 'b,token of b')
      if (!right || snapshots[0]?.getPhoneId() !== numberId || snapshots[1]?.getWabaId() !== wabaId) wrong.push(told)
      await new Promise(setImmediate)
    }
  }
  const readers = Promise.all([ask('1', '7'), ask('2', '8'), ask('1', '8'), ask('2', '7')])
  for (let swaps = 0; swaps < 300; swaps++) {
    const [first, second] = swaps % 2 === 0 ? ['b', 'a'] : ['a', 'b']
    await writer.query(`
      begin; update tenant_configs set phone_number_id = null, waba_id = null;
      update tenant_configs set phone_number_id = '1', waba_id = '7' where tenant_id = '${first}';
      update tenant_configs set phone_number_id = '2', waba_id = '8' where tenant_id = '${second}'; commit`)
  }
  writing.isDone = true
  await readers
  t.strictSame(wrong.slice(0, 5), [])
  await until(async () => (await configLoader.forPhoneNumber('1'))?.getTenantId() === 'a')
})
