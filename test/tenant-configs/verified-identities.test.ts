import type { Test } from 'tap'
import t from '../run/tap.js'
import type { RowChange } from '../../src/tenant-configs/tenant-configs.js'
import { buildTestApp, connect, query, untilWaiting } from '../helper.js'

/** Starts a service and returns functions to write and to verify the credentials of a tenant. */
async function createOwners (t: Test) {
  const { app, databaseUrl } = await buildTestApp(t)
  const { tenantConfigs } = app
  const changes: Array<RowChange | null> = []
  const ids = { waba_id: 'waba', phone_number_id: 'phone' }
  const stored = async (tenantId: string) => {
    const row = await tenantConfigs.find(tenantId)
    return { tenant_id: tenantId, access_token: row?.access_token ?? null, ...ids }
  }
  return {
    tenantConfigs,
    databaseUrl,
    changes,
    paste: async (tenantId: string) => await tenantConfigs.create(
      tenantId,
      null,
      { ...ids, access_token: `token of ${tenantId}` }
    ),
    renewToken: async (tenantId: string) => await tenantConfigs.update(
      tenantId,
      { access_token: `new token of ${tenantId}` }
    ),
    stored,
    verify: async (tenantId: string) => await tenantConfigs.saveVerified(await stored(tenantId)),
    watchChanges: () => { tenantConfigs.onChange((change) => { changes.push(change) }) },
    owner: async () => (await query(
      databaseUrl,
      "select tenant_id from verified_identities where phone_number_id = 'phone'"
    )).map((row) => row['tenant_id'])
  }
}

await t.test('saveVerified of an identity that differs from the row writes nothing', async (t) => {
  const { tenantConfigs, paste, stored, owner } = await createOwners(t)
  await paste('a')
  const identity = await stored('a')
  for (const other of [
    { access_token: 'v1.t1.other' }, { waba_id: 'other' }, { phone_number_id: 'other' }, { phone_number_id: null },
    { tenant_id: 'nobody' }
  ]) {
    t.equal(await tenantConfigs.saveVerified({ ...identity, ...other }), 'changed', JSON.stringify(other))
  }
  t.strictSame(await owner(), [])
  t.equal((await tenantConfigs.find('a'))?.last_verified_at, null)
})

await t.test('saveVerified takes over a number only if the current token of its owner is unverified', async (t) => {
  const { tenantConfigs, paste, renewToken, verify, watchChanges, changes, owner } = await createOwners(t)
  await paste('a')
  await paste('b')
  t.equal(await verify('a'), 'saved')
  t.equal(await verify('b'), 'taken')
  t.equal((await tenantConfigs.find('b'))?.last_verified_at, null)
  await renewToken('a')
  t.strictSame(await owner(), ['a'], 'a new token keeps the identity')
  watchChanges()
  t.equal(await verify('b'), 'saved')
  t.strictSame(await owner(), ['b'])
  t.strictSame(changes.sort(), [['a', 'phone', 'waba'], ['b', 'phone', 'waba']], 'listeners get a change of both rows')
  t.equal(await verify('a'), 'taken')
  t.equal(await verify('b'), 'saved', 'a repeated verification')
})

await t.test('saveVerified gives a number to one of two concurrent tenants', async (t) => {
  const { databaseUrl, paste, renewToken, verify, owner } = await createOwners(t)
  const both = ['b', 'c']
  for (const tenantId of ['a', ...both]) await paste(tenantId)
  const race = async () => {
    const gate = await connect(t, databaseUrl)
    await gate.query("begin; select from tenant_configs where tenant_id in ('b', 'c') for update")
    const racing = Promise.all(both.map(verify))
    await untilWaiting(databaseUrl, 2)
    await gate.query('rollback')
    const outcomes = await racing
    t.strictSame(outcomes.toSorted(), ['saved', 'taken'])
    t.strictSame(await owner(), [both[outcomes.indexOf('saved')]])
  }
  await race()
  await query(databaseUrl, 'delete from verified_identities; update tenant_configs set last_verified_at = null')
  await verify('a')
  await renewToken('a')
  await race()
})

await t.test('saveVerified gives a number to its owner or to a concurrent tenant, not to both', async (t) => {
  for (const first of ['a', 'b']) {
    const { databaseUrl, paste, renewToken, verify, owner } = await createOwners(t)
    await paste('a')
    await paste('b')
    await verify('a')
    await renewToken('a')
    // Blocks the first call at its first write, while it has the rows of the tenants locked.
    const gate = await connect(t, databaseUrl)
    await gate.query('begin; lock table verified_identities in share mode')
    const faster = verify(first)
    await untilWaiting(databaseUrl, 1)
    const slower = verify(first === 'a' ? 'b' : 'a')
    await untilWaiting(databaseUrl, 2)
    await gate.query('rollback')
    t.strictSame([await faster, await slower], ['saved', 'taken'], `${first} first`)
    t.strictSame(await owner(), [first])
  }
})
