import type { Test } from 'tap'
import t from '../../run/tap.js'
import { muteChanges, verifyEachRow } from '../../fixtures/verified-rows.js'
import { buildTestApp, connect, createDatabase, until } from '../../helper.js'
import { slowReads } from '../slow-reads.js'
import { createLookups } from './lookups.js'

/** Creates two verified tenants, each with its number, on WABA 7. */
async function createTwoTenants (t: Test, env: Record<string, string | number> = {}) {
  const lookups = await createLookups(t, {
    WHATSAPP_PHONE_ID: '99',
    WHATSAPP_TOKEN: 'token of env',
    WHATSAPP_WABA_ID: '99',
    ...env
  })
  const { tenantConfigs, databaseUrl, configLoader } = lookups
  await verifyEachRow(databaseUrl)
  await tenantConfigs.create('a', null, { phone_number_id: '1', waba_id: '7', access_token: 'token of a' })
  await tenantConfigs.create('b', null, { phone_number_id: '2', waba_id: '7', access_token: 'token of b' })
  // The notification of each write invalidates a second time; a late one would drop what a test has cached.
  await until(() => configLoader.stats().invalidations >= 5)
  return lookups
}

await t.test('a number finds its tenant, and an account finds all its tenants', async (t) => {
  const { tenantConfigs, configLoader, byNumber, byWaba } = await createTwoTenants(t)
  const snapshot = await configLoader.forPhoneNumber('1')
  t.equal(snapshot, await configLoader.forTenant('a'), 'all lookups share one snapshot')
  t.equal(snapshot?.getAccessToken(), 'token of a')
  t.equal(snapshot?.getTenantId(), 'a')
  t.equal(snapshot?.isStale(), false)
  t.strictSame(await configLoader.forWaba('7'), [snapshot, await configLoader.forTenant('b')])
  await Promise.all([byNumber('1'), byWaba('7')])
  const { loads } = configLoader.stats()
  for (const times of [1, 2]) {
    t.strictSame([await byNumber('1'), await byWaba('7')], ['a', ['a', 'b']], `again, ${times}`)
  }
  t.equal(configLoader.stats().loads, loads, 'the answers are cached')
  t.strictSame(configLoader.stats().entries, { tenants: 2, phone_numbers: 1, wabas: 1 })

  for (const times of [1, 2]) {
    t.strictSame([await byNumber('99'), await byWaba('99')], [null, []], `no tenant has the ids of .env, ${times}`)
  }
  t.equal(configLoader.stats().loads, loads + 2, 'the absence of a tenant is cached too')
  t.equal((await configLoader.forTenant('missing')).getTenantId(), null)

  await tenantConfigs.setActive('a', false)
  await until(async () => await byNumber('1') === null)
  t.strictSame(await byWaba('7'), ['b'])
  await tenantConfigs.setActive('a', true)
  await until(async () => await byNumber('1') === 'a' && (await byWaba('7')).length === 2)
  await tenantConfigs.remove('a')
  await until(async () => await byNumber('1') === null)
  t.strictSame(await byWaba('7'), ['b'])
})

await t.test('an id that no row can have causes no query', async (t) => {
  const { configLoader } = await createTwoTenants(t)
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
  for (const lookup of [configLoader.forPhoneNumber, configLoader.forWaba]) {
    const call: (id: unknown) => Promise<unknown> = async (id) => await Reflect.apply(lookup, configLoader, [id])
    for (const id of [undefined, null, 1, 1n, {}, ['1'], Object('1'), Symbol('1')]) await t.rejects(call(id), TypeError)
  }
})

await t.test('a number that moves finds its new tenant', async (t) => {
  const { tenantConfigs, byNumber, byWaba, psql } = await createTwoTenants(t)
  const both = async () => [await byNumber('1'), await byNumber('2')]
  t.strictSame(await both(), ['a', 'b'])
  t.strictSame([await byNumber('3'), await byWaba('8')], [null, []])

  await tenantConfigs.update('a', { phone_number_id: null })
  t.strictSame(await both(), [null, 'b'], 'a number released by this process is free at once')
  await tenantConfigs.update('b', { phone_number_id: '1' })
  await until(async () => await byNumber('1') === 'b')
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
    await until(async () => await byNumber('1') === first && await byNumber('2') === second)
    t.strictSame(await both(), [first, second], sql)
  }
  await psql("insert into tenant_configs (tenant_id, waba_id) values ('e', '8'), ('f', '8')")
  await until(async () => (await byWaba('8')).length > 0)
  t.strictSame(await byWaba('8'), ['e', 'f'])
  await psql("update tenant_configs set waba_id = '9' where tenant_id = 'e'")
  await until(async () => (await byWaba('8')).length < 2)
  t.strictSame([await byWaba('8'), await byWaba('9')], [['f'], ['e']])
})

await t.test('an id lookup and a row from before and after a move are not combined', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const { byNumber, byWaba, psql, configLoader, databaseUrl } = await createTwoTenants(t, { DATABASE_URL })
  await Promise.all([byNumber('1'), byWaba('7')])
  // Without notifications one of the two cached entries keeps its old value.
  await muteChanges(databaseUrl)
  await psql(
    "begin; update tenant_configs set phone_number_id = null; update tenant_configs set phone_number_id = '1', " +
      "waba_id = '7' where tenant_id = 'b'; update tenant_configs set waba_id = '8' where tenant_id = 'a'; commit"
  )
  const { app } = await buildTestApp(t, { DATABASE_URL })
  t.equal((await app.configLoader.forPhoneNumber('1'))?.getTenantId(), 'b')
  t.strictSame([await byNumber('1'), await byWaba('7')], ['a', ['a', 'b']], 'the cached entries fit together')
  await configLoader.forTenant('b')
  await psql("select pg_notify('tenant_configs', '[[\"a\", null, null]]')")
  await until(async () => await byNumber('1') === 'b')
  t.strictSame(await byWaba('7'), ['b'])
  const snapshot = await configLoader.forPhoneNumber('1')
  t.equal(snapshot?.getPhoneId(), '1')
  t.equal(snapshot?.isStale(), false)
})

await t.test('a lookup that runs while the number moves returns the new tenant', async (t) => {
  const { byNumber, byWaba, psql, databaseUrl, configLoader } = await createTwoTenants(t)
  await slowReads(databaseUrl)
  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query('select pg_advisory_lock(7)')
  const waiting = Promise.all([byNumber('1'), byWaba('7'), configLoader.forTenant('a')])
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
  await lockHolder.query('select pg_advisory_unlock(7)')
  const [tenantOf1, tenantsOf7, a] = await waiting
  t.strictSame([tenantOf1, tenantsOf7, a.getWabaId()], ['b', ['b'], '8'])
})

await t.test('an id always has a tenant while numbers and accounts are swapped continuously', async (t) => {
  const { configLoader, databaseUrl, psql } = await createTwoTenants(t)
  await psql("update tenant_configs set waba_id = '8' where tenant_id = 'b'")
  const writer = await connect(t, databaseUrl)
  await until(async () => (await configLoader.forWaba('7')).length === 1)
  const writing = { isDone: false }
  const wrong: unknown[] = []
  const ask = async (numberId: string, wabaId: string) => {
    while (!writing.isDone) {
      const snapshots = [await configLoader.forPhoneNumber(numberId), ...await configLoader.forWaba(wabaId)]
      const tenants = snapshots.map((snapshot) => [snapshot?.getTenantId(), snapshot?.getAccessToken()].join())
      const right = snapshots.length === 2 &&
        tenants.every((tenant) => tenant === 'a,token of a' || tenant === 'b,token of b')
      if (!right || snapshots[0]?.getPhoneId() !== numberId || snapshots[1]?.getWabaId() !== wabaId) wrong.push(tenants)
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
