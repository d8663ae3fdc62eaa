import pg from 'pg'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { activeOnNumber, activeOnWaba, rowOfTenant } from '../../../src/config-loader/config-rows.sql.js'
import { muteChanges } from '../../fixtures/verified-rows.js'
import { until } from '../../helper.js'
import { createSharedWaba } from './lookups.js'

/** Calls `count` for each statement of the loader that is sent to PostgreSQL; background work sends others. */
function countSent (t: Test, count: () => void): void {
  const statements = [rowOfTenant, activeOnNumber, activeOnWaba]
  const { bind, parse } = pg.Connection.prototype
  t.teardown(() => { Object.assign(pg.Connection.prototype, { bind, parse }) })
  pg.Connection.prototype.bind = function (config, more) {
    if (statements.some(({ name }) => name === config?.statement)) count()
    bind.call(this, config, more)
  }
  // Behind some poolers none has a name.
  pg.Connection.prototype.parse = function (query, more) {
    if (query.name === '' && statements.some(({ text }) => text === query.text)) count()
    parse.call(this, query, more)
  }
}

/** Creates three tenants on one WABA whose rows change without a notification. */
async function createMuted (t: Test) {
  const lookups = await createSharedWaba(t)
  const { databaseUrl, byNumber, byWaba, psql, configLoader } = lookups
  // The notification of each write invalidates a second time.
  await until(() => configLoader.stats().invalidations >= 7)
  let sent = 0
  countSent(t, () => { sent++ })
  await Promise.all([...['1', '2', '3'].map(byNumber), byWaba('7')])
  t.equal(sent, 7)
  await muteChanges(databaseUrl)
  const notify = async (changes: unknown[][]) => {
    const { invalidations } = configLoader.stats()
    await psql(`select pg_notify('tenant_configs', '${JSON.stringify(changes)}')`)
    await until(() => configLoader.stats().invalidations === invalidations + changes.length)
  }
  /** Calls `ask` four times; returns the number of statements that each call sends to PostgreSQL. */
  const statementsOf = async (ask: () => Promise<unknown>) => {
    const each: number[] = []
    for (let times = 0; times < 4; times++) {
      const before = sent
      await ask()
      each.push(sent - before)
    }
    return each
  }
  return { ...lookups, notify, statementsOf }
}

await t.test('a lookup that contradicts a row is read again once, then served from the cache', async (t) => {
  const { byNumber, byWaba, psql, notify, statementsOf } = await createMuted(t)
  t.strictSame(await statementsOf(async () => await byNumber('1')), [0, 0, 0, 0])
  await psql("update tenant_configs set phone_number_id = null where tenant_id = 'a'")
  await notify([['a', null, null]])
  t.strictSame(
    await statementsOf(async () => { t.equal(await byNumber('1'), null) }),
    [2, 0, 0, 0],
    'reads the row and the tenant of the number'
  )
  await psql("update tenant_configs set waba_id = '8' where tenant_id in ('a', 'b')")
  await notify([['a', null, null], ['b', null, null]])
  t.strictSame(await statementsOf(async () => { t.strictSame(await byWaba('7'), ['c']) }), [3, 0, 0, 0])
})

await t.test('a row whose change was missed is read together with its id, then cached', async (t) => {
  const { byNumber, byWaba, psql, notify, statementsOf } = await createMuted(t)
  await psql(`
    update tenant_configs set phone_number_id = null where tenant_id = 'a';
    update tenant_configs set phone_number_id = '1', waba_id = '8' where tenant_id = 'b'`)
  await notify([['a', '1', null]])
  t.strictSame(
    await statementsOf(async () => { t.equal(await byNumber('1'), 'b') }),
    [3, 1, 0, 0],
    'reads the id twice and both together; then the invalidated row'
  )
  await psql("update tenant_configs set waba_id = '8' where tenant_id = 'c'")
  await notify([['b', null, '8']])
  t.strictSame(await statementsOf(async () => { t.strictSame(await byWaba('8'), ['b', 'c']) }), [4, 1, 0, 0])
})

await t.test('a combined read of id and row reports or leaves out unreadable secrets', async (t) => {
  const { byNumber, byWaba, psql, notify } = await createMuted(t)
  const copyToken = "access_token = (select access_token from tenant_configs where tenant_id = 'a')"
  await psql(`
    update tenant_configs set phone_number_id = '4', waba_id = '8' where tenant_id in ('c');
    update tenant_configs set phone_number_id = '5', waba_id = '8', ${copyToken} where tenant_id = 'b'`)
  await notify([['a', '5', '8']])
  await t.rejects(byNumber('5'), { code: 'SECRET_UNREADABLE' })
  await notify([['a', '5', '8'], ['x', '4', null]])
  t.strictSame(await byWaba('8'), ['c'])
})
