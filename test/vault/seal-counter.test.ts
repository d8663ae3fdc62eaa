import t from '../run/tap.js'
import { createSealCounter } from '../../src/vault/seal-counter.js'
import { createVault } from '../../src/vault/vault.js'
import { buildTestApp, newKey, query, until } from '../helper.js'

const seals = async (url: string) =>
  (await query(url, 'select key_id, seals::int from vault_keys order by 1')).map(({ key_id: id, seals }) => [id, seals])

/** A counter of a vault of its own, on the database of a service. */
async function createCounter (t: Parameters<typeof buildTestApp>[0]) {
  const keyRing = `k2:${newKey()},k1:${newKey()}`
  const { app, databaseUrl } = await buildTestApp(t, { ENCRYPTION_KEYS: keyRing })
  const vault = createVault({ keyRing })
  const warnings: unknown[][] = []
  const log = { warn: (...line: unknown[]) => { warnings.push(line) } }
  const seal = () => vault.seal('secret', 'acme', 'access_token')
  const counter = createSealCounter({ database: app.database, vault, log, periodMs: 20 })
  return { counter, seal, warnings, databaseUrl }
}

await t.test('a service adds its seals to those of its first key when it stops', async (t) => {
  const keyRing = `k2:${newKey()},k1:${newKey()}`
  const { app, databaseUrl } = await buildTestApp(t, { ENCRYPTION_KEYS: keyRing })
  await app.tenantConfigs.create('acme', null, { access_token: 'one', verify_token: 'two' })
  await app.tenantConfigs.update('acme', { fb_app_secret: 'three' })
  await app.close()
  t.same(await seals(databaseUrl), [['k1', 0], ['k2', 4]], 'with the audit key')

  const again = await buildTestApp(t, { ENCRYPTION_KEYS: keyRing, DATABASE_URL: databaseUrl })
  await again.app.tenantConfigs.update('acme', { fb_app_secret: 'four' })
  await again.app.close()
  t.same(await seals(databaseUrl), [['k1', 0], ['k2', 5]])
})

await t.test('a counter learns the format that a rotation set', async (t) => {
  const { counter, seal, databaseUrl } = await createCounter(t)
  await query(databaseUrl, "update vault_keys set format = 'v1'")
  t.match(seal(), /^v2\./)
  counter.start()
  await until(() => seal().startsWith('v1.'))
  await query(databaseUrl, "update vault_keys set format = 'v2'")
  await counter.stop()
  t.match(seal(), /^v2\./)
})

await t.test('a counter that seals nothing writes nothing', async (t) => {
  const { counter, databaseUrl } = await createCounter(t)
  const version = async () => await query(databaseUrl, 'select key_id, xmin::text from vault_keys order by 1')
  const before = await version()
  await counter.stop()
  t.same(await version(), before)
})

await t.test('a counter warns once when its key has sealed half as often as it may', async (t) => {
  const { counter, seal, warnings, databaseUrl } = await createCounter(t)
  const half = 2 ** 31
  await query(databaseUrl, 'update vault_keys set seals = $1', [half - 2])
  seal()
  counter.start()
  await until(async () => (await seals(databaseUrl))[1]?.[1] === half - 1)
  t.same(warnings, [])
  for (let count = 0; count < 2; count++) {
    seal()
    await counter.stop()
  }
  const warning = 'the first key of ENCRYPTION_KEYS has sealed half as often as it may: put a new one first'
  t.same(warnings, [[{ key_id: 'k2', seals: half }, warning]])
})

await t.test('seals that cannot be counted are counted later', async (t) => {
  const { counter, seal, warnings, databaseUrl } = await createCounter(t)
  seal()
  await query(databaseUrl, 'alter table vault_keys rename to away')
  counter.start()
  await until(() => warnings.length > 0)
  t.match(warnings, [[{ err: { code: '42P01' } }, 'the seals could not be counted; the next minute tries again']])
  await query(databaseUrl, 'alter table away rename to vault_keys')
  seal()
  await counter.stop()
  t.same(await seals(databaseUrl), [['k1', 0], ['k2', 2]])
})
