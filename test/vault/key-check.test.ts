import type { Test } from 'tap'
import t from '../run/tap.js'
import type { SecretColumn } from '../../src/schemas/columns.js'
import { createVault } from '../../src/vault/vault.js'
import { buildTestApp, connect, createDatabase, newKey, query, untilWaiting } from '../helper.js'

const [one, two] = [newKey(), newKey()]
const columns: SecretColumn[] = ['access_token', 'fb_app_secret', 'verify_token', 'refresh_token']
const keysOf = async (url: string) =>
  (await query(url, 'select key_id from vault_keys order by key_id')).map((row) => row['key_id'])

/** Starts once with a ring, and stores the secret if one is given. Deletes the audit key, which the ring sealed too. */
async function boot (
  t: Test,
  url: string,
  keyRing: string,
  secret?: { tenant: string, column: SecretColumn }
): Promise<void> {
  const { app } = await buildTestApp(t, { DATABASE_URL: url, ENCRYPTION_KEYS: keyRing })
  if (secret !== undefined) await app.tenantConfigs.create(secret.tenant, null, { [secret.column]: 'stored secret' })
  await app.close()
  await query(url, 'delete from service_secrets')
}

await t.test('a service whose key ring does not fit the database refuses to start', async (t) => {
  const url = await createDatabase(t)
  await boot(t, url, `k1:${one}`)
  t.same(await keysOf(url), ['k1'])
  const other = 'ENCRYPTION_KEYS holds another key under the id k1 than the one this database was sealed with. Give ' +
    'the new key a new id.'
  await t.rejects(boot(t, url, `k1:${two}`), { message: other }, 'the key is refused even if no secret is sealed')
  await t.rejects(boot(t, url, `k2:${newKey()},k1:${two}`), { message: other })
  t.same(await keysOf(url), ['k1'], 'a refused ring stores no key id')

  const [three, four] = [newKey(), newKey()]
  await boot(t, url, `k3:${three},k1:${one}`)
  t.same(await keysOf(url), ['k1', 'k3'], 'a new key is stored with a check value')
  await boot(t, url, `k3:${three}`)
  t.pass('an unused key may be removed')

  const lacking = 'ENCRYPTION_KEYS lacks the key k3, which stored secrets are sealed with. Add it to the end of the ' +
    'list.'
  for (const column of columns) {
    await boot(t, url, `k3:${three}`, { tenant: 'acme', column })
    await t.rejects(boot(t, url, `k4:${four}`), { message: lacking }, column)
    await boot(t, url, `k4:${four},k3:${three}`)
    await query(url, 'delete from tenant_configs')
    await t.rejects(boot(t, url, `k4:${four}`), { message: lacking }, `${column} of a version`)
    await query(url, 'delete from tenant_config_versions')
  }
  await boot(t, url, `k4:${four}`)
})

await t.test('a key is in use while an onboarding stores a token sealed with it', async (t) => {
  const url = await createDatabase(t)
  await boot(t, url, `k1:${one}`)
  const insert = "insert into onboardings (tenant_id, code_hash, status, steps, access_token) values ('acme', " +
    "'hash', 'in_progress', '[]', $1)"
  await query(url, insert, [createVault({ keyRing: `k1:${one}` }).seal('granted', 'acme', 'access_token')])
  const lacking = 'ENCRYPTION_KEYS lacks the key k1, which stored secrets are sealed with. Add it to the end of the ' +
    'list.'
  await t.rejects(boot(t, url, `k2:${two}`), { message: lacking })
  await boot(t, url, `k2:${two},k1:${one}`)
  await query(url, 'update onboardings set access_token = null')
  await boot(t, url, `k2:${two}`)
})

await t.test('a key is in use while the audit key is sealed with it', async (t) => {
  const url = await createDatabase(t)
  const { app } = await buildTestApp(t, { DATABASE_URL: url, ENCRYPTION_KEYS: `k1:${one}` })
  await app.close()
  await t.rejects(boot(t, url, `k2:${two}`), { message: /^ENCRYPTION_KEYS lacks the key k1, / })
  await boot(t, url, `k2:${two},k1:${one}`)
  await boot(t, url, `k2:${two}`)
})

await t.test('a key is not in use only because its id is a prefix of a used one', async (t) => {
  const url = await createDatabase(t)
  await boot(t, url, `k1:${one},k11:${two}`)
  await boot(t, url, `k11:${two},k1:${one}`, { tenant: 'acme', column: 'access_token' })
  await boot(t, url, `k11:${two}`)
})

await t.test('one of two concurrent starts with different keys under one id is refused', async (t) => {
  const url = await createDatabase(t)
  const lockHolder = await connect(t, url)
  await lockHolder.query('begin; lock table vault_keys in share mode')
  const both = Promise.allSettled([one, two].map(async (key) => await boot(t, url, `k1:${key}`)))
  await untilWaiting(url, 2)
  await lockHolder.query('commit')
  const ends = (await both).map((end) => end.status === 'rejected' ? String(end.reason) : 'booted')
  t.match(ends.sort(), [/holds another key under the id k1/, 'booted'])
})
