import t from '../../run/tap.js'
import { withConnection } from '../../../src/database/connection.js'
import { secretColumns } from '../../../src/schemas/columns.js'
import { listKeys } from '../../../src/vault/key-inspection.js'
import { createVault } from '../../../src/vault/vault.js'
import { connect, createDatabase, query, untilWaiting } from '../../helper.js'
import { countedDatabase } from '../../config-counts/plain-counts.js'
import { addKeys, insertTenant, rings, rotate, secretOf } from '../../vault/rotation/rotated.js'

const present = createVault({ keyRing: rings.before })
const later = createVault({ keyRing: rings.after })
const versionsOf = async (url: string) =>
  await query(url, 'select * from tenant_config_versions order by tenant_id, version')

await t.test('a rotation seals the versions anew, and makes none', async (t) => {
  const url = await createDatabase(t)
  await addKeys(url, rings.both)
  const { assertExact } = await countedDatabase(t, url)
  for (const tenant of ['acme', 'gone']) await insertTenant(url, present, tenant)
  await query(url, "update tenant_configs set callback_url = 'https://a.example'")
  await query(url, 'update tenant_configs set verify_token = null')
  await query(url, "delete from tenant_configs where tenant_id = 'gone'")
  // The rows of acme have 3 secrets and 2 versions with 4; gone has 3 versions, the last one with 3.
  t.strictSame((await assertExact('before'))['keys'], { k1: 22, k2: 0 })
  const before = await versionsOf(url)
  t.match(await rotate(url), {
    replaced: 22, unreadable: { count: 0 }, counts: [{ key_id: 'k2', format: 'v2', count: 22 }]
  })
  t.strictSame((await assertExact('after'))['keys'], { k1: 0, k2: 22 })
  const after = await versionsOf(url)
  const plain = (versions: typeof before) =>
    versions.map((version) => ({ ...version, ...Object.fromEntries(secretColumns.map((name) => [name, null])) }))
  t.same(plain(after), plain(before), 'nothing else changes')
  for (const [i, version] of after.entries()) {
    const tenant = String(version['tenant_id'])
    for (const column of secretColumns) {
      if (before[i]?.[column] === null) t.equal(version[column], null)
      else t.equal(later.open(String(version[column]), tenant, column), secretOf(tenant, column))
    }
  }
  const { keys } = await withConnection(url, async (db) => await listKeys(db, later))
  t.match(keys, [{ key_id: 'k2', values: 22 }, { key_id: 'k1', values: 0 }])
})

await t.test('a rotation of one format finds the versions of the other one', async (t) => {
  const url = await createDatabase(t)
  await addKeys(url, rings.before)
  await insertTenant(url, createVault({ keyRing: rings.before, format: 'v1' }), 'acme')
  await query(url, 'delete from tenant_configs')
  t.match(await rotate(url, { keyRing: rings.before }), {
    replaced: 4, counts: [{ key_id: 'k1', format: 'v2', count: 4 }]
  })
})

await t.test('a version that a change makes during a rotation is sealed anew', async (t) => {
  const url = await createDatabase(t)
  await addKeys(url, rings.both)
  await insertTenant(url, present, 'acme')
  const writer = await connect(t, url)
  await writer.query("begin; update tenant_configs set callback_url = 'https://a.example'")
  const rotation = rotate(url, { waitMs: 30_000 })
  await untilWaiting(url, 1)
  await writer.query('commit')
  t.match(await rotation, { replaced: 8, counts: [{ key_id: 'k2', count: 8 }] })
  t.match(await versionsOf(url), [{ changed: ['callback_url'], access_token: /^v2\.k2\./ }])
})

await t.test('an unreadable value is counted once for the row and once for each version', async (t) => {
  const url = await createDatabase(t)
  await addKeys(url, rings.both)
  await insertTenant(url, present, 'acme')
  await query(url, "update tenant_configs set verify_token = 'in clear'")
  for (const host of ['a', 'b']) await query(url, `update tenant_configs set callback_url = 'https://${host}.example'`)
  t.match(await rotate(url), {
    replaced: 13,
    unreadable: { count: 3, places: [{ tenant_id: 'acme', column: 'verify_token' }] },
    counts: [{ key_id: 'k2', count: 13 }, { key_id: null, count: 3 }]
  })
})
