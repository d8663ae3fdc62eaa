import { getTableName } from 'drizzle-orm'
import t from '../run/tap.js'
import { withConnection } from '../../src/database/connection.js'
import { countSealed } from '../../src/vault/key-check.sql.js'
import { sealedTables } from '../../src/vault/sealed-places.sql.js'
import { createVault } from '../../src/vault/vault.js'
import { createDatabase, query } from '../helper.js'
import { addKeys, rings, rotate } from '../vault/rotation/rotated.js'
import { countedDatabase } from './plain-counts.js'

const sealed = (keyId: string, format = 'v2') => `${format}.${keyId}.${format === 'v2' ? 'tail.' : ''}payload`

const writes = [
  `insert into tenant_configs (tenant_id, access_token, verify_token)
   select 't' || i, '${sealed('k1')}', '${sealed('k1', 'v1')}' from generate_series(1, 5) i`,
  `update tenant_configs set fb_app_secret = '${sealed('k2')}', refresh_token = '${sealed('k2', 'v1')}'
   where id % 2 = 0`,
  `update tenant_configs set access_token = '${sealed('k2')}'`,
  "update tenant_configs set verify_token = null where tenant_id = 't1'",
  `insert into onboardings (tenant_id, code_hash, steps, access_token, former)
   select 't' || i, i, '[]', '${sealed('k1')}', '{"access_token": "${sealed('k2')}"}' from generate_series(1, 3) i`,
  "update tenant_config_versions set access_token = null where tenant_id = 't1' and version = 1",
  "delete from tenant_config_versions where tenant_id = 't4'",
  `update onboardings set access_token = '${sealed('k2')}' where code_hash = '1'`,
  "update onboardings set former = null, access_token = null where code_hash = '2'",
  "delete from onboardings where code_hash = '3'",
  // Else the deleted values would go on as those of a version.
  "update version_policy set retention_days = 0; delete from tenant_configs where tenant_id = 't2'",
  'truncate onboardings',
  'truncate tenant_configs',
  'truncate tenant_config_versions',
  `insert into service_secrets (name, sealed) values ('audit_key', '${sealed('k1')}')`,
  `update service_secrets set sealed = '${sealed('k2')}'`,
  'truncate service_secrets'
]

await t.test('the stored values of each key are exact after each kind of write', async (t) => {
  const { run, assertExact, fold } = await countedDatabase(t)
  await run("insert into vault_keys (key_id, check_value) values ('k1', ''), ('k2', ''), ('total', '')")
  let before = (await assertExact('nothing stored'))['keys']
  t.strictSame(before, { k1: 0, k2: 0, total: 0 })
  for (const write of writes) {
    await run(write)
    const { keys } = await assertExact(write)
    t.notSame(keys, before, `${write} changes the counts`)
    await fold()
    before = (await assertExact(`${write}, folded`))['keys']
  }
  await run(`insert into tenant_configs (tenant_id, access_token) values ('total', '${sealed('total')}')`)
  t.strictSame((await assertExact('a key that is named as a count'))['keys'], { k1: 0, k2: 0, total: 1 })
})

await t.test('a write of other columns, and a text that is not sealed, append no count', async (t) => {
  const { run } = await countedDatabase(t)
  // A version has sealed values, too.
  await run('update version_policy set retention_days = 0')
  await run(writes[0] ?? '')
  await run('select config_counts_fold(5000)')
  for (const write of [
    "update tenant_configs set callback_url = 'https://a.example'",
    "update tenant_configs set verify_token = 'v1.k1.other' where tenant_id = 't1'",
    ...['clear', 'v3.k1.x', 'v1.k1', 'v2..x', `v1.${'k'.repeat(33)}.x`].map((text) =>
      `update tenant_configs set refresh_token = '${text}'`),
    "insert into onboardings (tenant_id, code_hash, steps) values ('t1', '1', '[]')",
    'update onboardings set holder = gen_random_uuid(), held_until = now()'
  ]) {
    await run(write)
    t.same(await run('select source, name, count from config_count_changes'), [], write)
  }
})

await t.test('a rotation moves the counts from one key to the other', async (t) => {
  const url = await createDatabase(t)
  await addKeys(url, rings.both)
  const { seal } = createVault({ keyRing: rings.before })
  await query(url, 'insert into tenant_configs (tenant_id, access_token) values ($1, $2)',
    ['acme', seal('secret', 'acme', 'access_token')])
  const { assertExact } = await countedDatabase(t, url)
  t.strictSame((await assertExact('before'))['keys'], { k1: 1, k2: 0 })
  await rotate(url)
  t.strictSame((await assertExact('after'))['keys'], { k1: 0, k2: 1 })
})

await t.test('a recount corrects the counts of keys', async (t) => {
  const { url, run, assertExact } = await countedDatabase(t)
  await run("insert into vault_keys (key_id, check_value) values ('k1', ''), ('k2', '')")
  for (const table of ['tenant_configs', 'onboardings']) await run(`alter table ${table} disable trigger user`)
  for (const write of writes.slice(0, 5)) await run(write)
  for (const table of ['tenant_configs', 'onboardings']) await run(`alter table ${table} enable trigger user`)
  await run('select config_counts_recount()')
  // Without the triggers the tokens have no watch.
  await run('delete from token_watch')
  t.strictSame((await assertExact('the recount'))['keys'], { k1: 7, k2: 12 })
  const counts = await withConnection(url, countSealed)
  t.same(counts.map(({ key_id: id, format, count }) => [id, format, count]), [
    ['k1', 'v1', 4], ['k1', 'v2', 3], ['k2', 'v1', 2], ['k2', 'v2', 10]
  ], 'a count of the rows themselves')
})

await t.test('every table with sealed values is counted by triggers, or read by the statistics', async (t) => {
  const url = await createDatabase(t)
  const names = sealedTables.map(({ table }) => getTableName(table))
  for (const name of names.filter((name) => name !== 'service_secrets')) {
    const triggers = await query(
      url,
      `select tgname, tgtype from pg_trigger join pg_proc on pg_proc.oid = tgfoid
       where tgrelid = $1::regclass and (proname ~ '(secrets|tokens)_counted$' or proname = 'config_counts_emptied')`,
      [name]
    )
    // pg_trigger.h: insert 4, delete 8, update 16, truncate 32.
    t.equal(triggers.reduce((events, { tgtype }) => events | (Number(tgtype) & 60), 0), 60, name)
  }
})
