import t from '../../run/tap.js'
import { until } from '../../helper.js'
import { createSharedWaba } from './lookups.js'

const unreadable = { code: 'SECRET_UNREADABLE' }

await t.test('a row with unreadable secrets fails its own lookup only', async (t) => {
  const { configLoader, byNumber, byWaba, psql } = await createSharedWaba(t)
  t.strictSame(await byWaba('7'), ['a', 'b', 'c'])
  const copyToken = async (to: string, from: string) => await psql(`
    update tenant_configs
    set access_token = (select access_token from tenant_configs where tenant_id = '${from}')
    where tenant_id = '${to}'`)
  await psql('create table kept as select tenant_id, access_token from tenant_configs')
  await copyToken('b', 'c')
  await until(async () => (await byWaba('7')).length < 3)
  t.strictSame(await byWaba('7'), ['a', 'c'], 'the unreadable row is left out')
  await t.rejects(byNumber('2'), unreadable)
  t.equal(await byNumber('1'), 'a')
  await copyToken('a', 'c')
  await until(async () => (await byWaba('7')).length < 2)
  t.strictSame(await byWaba('7'), ['c'])
  await copyToken('c', 'b')
  await psql(`
    update tenant_configs set access_token = (select access_token from kept where tenant_id = 'a')
    where tenant_id = 'c'`)
  await until(async () => await byWaba('7').then(() => false, () => true))
  await t.rejects(configLoader.forWaba('7'), unreadable, 'the lookup fails if no row is readable')
  await t.rejects(byNumber('1'), unreadable)
  await psql(`
    update tenant_configs set access_token = kept.access_token from kept
    where kept.tenant_id = tenant_configs.tenant_id`)
  await until(async () => await byWaba('7').then((tenants) => tenants.length === 3, () => false))
  t.equal(await byNumber('2'), 'b')
})
