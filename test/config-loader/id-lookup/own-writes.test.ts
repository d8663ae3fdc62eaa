import type { Test } from 'tap'
import t from '../../run/tap.js'
import { activeOnNumber, activeOnWaba, rowOfTenant } from '../../../src/config-loader/config-rows.sql.js'
import { muteChanges, storeVerified, verifyEachRow, verifyStored } from '../../fixtures/verified-rows.js'
import { buildTestApp, createDatabase, query, until } from '../../helper.js'

const unreadable = { code: 'SECRET_UNREADABLE' }

/** A service and its lookups by id. `isBlind`: its invalidation listener is connected to another database. */
async function createAsked (t: Test, { isBlind = false } = {}) {
  const blind = isBlind ? { DATABASE_DIRECT_URL: await createDatabase(t), CONFIG_CACHE_BLIND_TTL_MS: 60_000 } : {}
  const { app, databaseUrl } = await buildTestApp(t, { CONFIG_CACHE_TTL_MS: 60_000, ...blind })
  const { configLoader, tenantConfigs } = app
  t.equal(configLoader.stats().channel, isBlind ? 'down' : 'up')
  const on = async (id: string) => (await configLoader.forPhoneNumber(id))?.getTenantId() ?? null
  const among = async (id: string) => (await configLoader.forWaba(id)).map((snapshot) => snapshot.getTenantId())
  const psql = async (sql: string) => await query(databaseUrl, sql)
  return { app, databaseUrl, configLoader, tenantConfigs, on, among, psql }
}

await t.test('a write of this process is visible to the next lookup without any notification', async (t) => {
  for (const isBlind of [false, true]) {
    const { app, tenantConfigs, on, among } = await createAsked(t, { isBlind })
    const numbers = ['1', '2', '3']
    const wabas = ['7', '8', '9']
    const paste = async (tenantId: string, ids: object) => {
      await tenantConfigs.create(tenantId, null, ids)
      await verifyStored(app, tenantId)
    }
    const all = async () => [await Promise.all(numbers.map(on)), await Promise.all(wabas.map(among))]
    const steps: [what: string, write: () => Promise<unknown>, onNumbers: (string | null)[], onWabas: string[][]][] = [
      ['nobody', async () => {}, [null, null, null], [[], [], []]],
      [
        'create',
        async () => await tenantConfigs.create('a', null, { phone_number_id: '1', waba_id: '7', access_token: 'one' }),
        [null, null, null],
        [[], [], []]
      ],
      ['verify', async () => await verifyStored(app, 'a'), ['a', null, null], [['a'], [], []]],
      [
        'a second one',
        async () => { await paste('b', { phone_number_id: '2', waba_id: '7' }) },
        ['a', 'b', null],
        [['a', 'b'], [], []]
      ],
      [
        'the same number, unverified',
        async () => await tenantConfigs.create('squatter', null, { phone_number_id: '2', waba_id: '7' }),
        ['a', 'b', null],
        [['a', 'b'], [], []]
      ],
      ['its end', async () => { await tenantConfigs.remove('squatter') }, ['a', 'b', null], [['a', 'b'], [], []]],
      [
        'update of the number',
        async () => await tenantConfigs.update('a', { phone_number_id: '3' }),
        [null, 'b', null],
        [['b'], [], []]
      ],
      ['verify the number', async () => await verifyStored(app, 'a'), [null, 'b', 'a'], [['a', 'b'], [], []]],
      [
        'update of the account',
        async () => await tenantConfigs.update('a', { waba_id: '8' }),
        [null, 'b', null],
        [['b'], [], []]
      ],
      ['verify the account', async () => await verifyStored(app, 'a'), [null, 'b', 'a'], [['b'], ['a'], []]],
      [
        'another token',
        async () => await tenantConfigs.update('a', { access_token: 'another' }),
        [null, 'b', 'a'],
        [['b'], ['a'], []]
      ],
      ['off', async () => await tenantConfigs.setActive('a', false), [null, 'b', null], [['b'], [], []]],
      ['on', async () => await tenantConfigs.setActive('a', true), [null, 'b', 'a'], [['b'], ['a'], []]],
      [
        'ids that are taken away',
        async () => await tenantConfigs.update('a', { phone_number_id: null, waba_id: null }),
        [null, 'b', null],
        [['b'], [], []]
      ],
      [
        'onboarding',
        async () => {
          await storeVerified(app, 'c', {
            waba_id: '9',
            phone_number_id: '1',
            access_token: 'one',
            token_expires_at: null
          })
        },
        ['c', 'b', null],
        [['b'], [], ['c']]
      ],
      [
        'another token of b',
        async () => await tenantConfigs.update('b', { access_token: 'another' }),
        ['c', 'b', null],
        [['b'], [], ['c']]
      ],
      [
        'onboarding with the number of another',
        async () => {
          await storeVerified(app, 'a', {
            waba_id: '9',
            phone_number_id: '2',
            access_token: 'two',
            token_expires_at: null
          })
        },
        ['c', 'a', null],
        [[], [], ['a', 'c']]
      ],
      [
        'onboarding with another number',
        async () => {
          await storeVerified(app, 'a', {
            waba_id: '8',
            phone_number_id: '3',
            access_token: 'two',
            token_expires_at: null
          })
        },
        ['c', null, 'a'],
        [[], ['a'], ['c']]
      ],
      ['verify what another left', async () => await verifyStored(app, 'b'), ['c', 'b', 'a'], [['b'], ['a'], ['c']]],
      ['remove', async () => { await tenantConfigs.remove('a') }, ['c', 'b', null], [['b'], [], ['c']]],
      ['all', async () => { await tenantConfigs.removeAll(2) }, [null, null, null], [[], [], []]]
    ]
    for (const [what, write, onNumbers, onWabas] of steps) {
      await write()
      for (const times of ['first', 'again']) {
        t.strictSame(await all(), [onNumbers, onWabas], `${what}, ${times}${isBlind ? ', blind' : ''}`)
      }
    }
  }
})

await t.test('a row with unreadable secrets fails its own lookup only', async (t) => {
  const { tenantConfigs, configLoader, databaseUrl, on, among, psql } = await createAsked(t)
  await verifyEachRow(databaseUrl)
  for (const [tenant, phone_number_id] of [['a', '1'], ['b', '2'], ['c', '3']] as const) {
    await tenantConfigs.create(tenant, null, { phone_number_id, waba_id: '7', access_token: `token of ${tenant}` })
  }
  t.strictSame(await among('7'), ['a', 'b', 'c'])
  const swap = async (one: string, other: string) => await psql(
    `update tenant_configs set access_token = (select access_token from tenant_configs where tenant_id = '${other}') where tenant_id = '${one}'`
  )
  await psql('create table kept as select tenant_id, access_token from tenant_configs')
  await swap('b', 'c')
  await until(async () => (await among('7')).length < 3)
  t.strictSame(await among('7'), ['a', 'c'], 'it is left out')
  await t.rejects(on('2'), unreadable)
  t.equal(await on('1'), 'a')
  await swap('a', 'c')
  await until(async () => (await among('7')).length < 2)
  t.strictSame(await among('7'), ['c'])
  await swap('c', 'b')
  await psql(
    "update tenant_configs set access_token = (select access_token from kept where tenant_id = 'a') where tenant_id " +
      "= 'c'"
  )
  await until(async () => await among('7').then(() => false, () => true))
  await t.rejects(configLoader.forWaba('7'), unreadable, 'when none opens, that is said')
  await t.rejects(on('1'), unreadable)
  await psql(
    'update tenant_configs set access_token = kept.access_token from kept where kept.tenant_id = ' +
      'tenant_configs.tenant_id'
  )
  await until(async () => await among('7').then((tenants) => tenants.length === 3, () => false))
  t.equal(await on('2'), 'b')
})

/** Three tenants on one account whose rows change without a notification. */
async function createUntold (t: Test) {
  const asked = await createAsked(t)
  const { app, databaseUrl, tenantConfigs, on, among, psql, configLoader } = asked
  await verifyEachRow(databaseUrl)
  for (const [tenant, phone_number_id] of [['a', '1'], ['b', '2'], ['c', '3']] as const) {
    await tenantConfigs.create(tenant, null, { phone_number_id, waba_id: '7', access_token: `token of ${tenant}` })
  }
  // The notification of each write invalidates a second time.
  await until(() => configLoader.stats().invalidations >= 7)
  const statements = new Set<unknown>([rowOfTenant, activeOnNumber, activeOnWaba])
  const { run } = app.database
  let sent = 0
  app.database.run = async (statement, values) => {
    // Background work sends statements too.
    if (statements.has(statement)) sent++
    return await run(statement, values)
  }
  await Promise.all([...['1', '2', '3'].map(on), among('7')])
  t.equal(sent, 7)
  await muteChanges(databaseUrl)
  const tell = async (changes: unknown[][]) => {
    const { invalidations } = configLoader.stats()
    await psql(`select pg_notify('tenant_configs', '${JSON.stringify(changes)}')`)
    await until(() => configLoader.stats().invalidations === invalidations + changes.length)
  }
  /** Calls `ask` four times; returns the number of statements that each call sends to PostgreSQL. */
  const costs = async (ask: () => Promise<unknown>) => {
    const each: number[] = []
    for (let times = 0; times < 4; times++) {
      const before = sent
      await ask()
      each.push(sent - before)
    }
    return each
  }
  return { ...asked, tell, costs }
}

await t.test('a lookup that contradicts a row is read again once, then served from the cache', async (t) => {
  const { on, among, psql, tell, costs } = await createUntold(t)
  t.strictSame(await costs(async () => await on('1')), [0, 0, 0, 0])
  await psql("update tenant_configs set phone_number_id = null where tenant_id = 'a'")
  await tell([['a', null, null]])
  t.strictSame(
    await costs(async () => { t.equal(await on('1'), null) }),
    [2, 0, 0, 0],
    'the row, and who has the number'
  )
  await psql("update tenant_configs set waba_id = '8' where tenant_id in ('a', 'b')")
  await tell([['a', null, null], ['b', null, null]])
  t.strictSame(await costs(async () => { t.strictSame(await among('7'), ['c']) }), [3, 0, 0, 0])
})

await t.test('a row whose change was missed is read together with its id, then cached', async (t) => {
  const { on, among, psql, tell, costs } = await createUntold(t)
  await psql(
    "update tenant_configs set phone_number_id = null where tenant_id = 'a'; update tenant_configs set " +
      "phone_number_id = '1', waba_id = '8' where tenant_id = 'b'"
  )
  await tell([['a', '1', null]])
  t.strictSame(
    await costs(async () => { t.equal(await on('1'), 'b') }),
    [3, 1, 0, 0],
    'who has it twice and both at once; then the row that was struck'
  )
  await psql("update tenant_configs set waba_id = '8' where tenant_id = 'c'")
  await tell([['b', null, '8']])
  t.strictSame(await costs(async () => { t.strictSame(await among('8'), ['b', 'c']) }), [4, 1, 0, 0])
})

await t.test('a combined read of id and row reports or leaves out unreadable secrets', async (t) => {
  const { on, among, psql, tell } = await createUntold(t)
  const swap = "access_token = (select access_token from tenant_configs where tenant_id = 'a')"
  await psql(
    `update tenant_configs set phone_number_id = '4', waba_id = '8' where tenant_id in ('c'); update tenant_configs set phone_number_id = '5', waba_id = '8', ${swap} where tenant_id = 'b'`
  )
  await tell([['a', '5', '8']])
  await t.rejects(on('5'), unreadable)
  await tell([['a', '5', '8'], ['x', '4', null]])
  t.strictSame(await among('8'), ['c'])
})
