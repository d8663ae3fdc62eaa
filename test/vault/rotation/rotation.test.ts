import t from '../../run/tap.js'
import { secretColumns } from '../../../src/schemas/columns.js'
import { createVault } from '../../../src/vault/vault.js'
import { aboutConnections, connect, createDatabase, query, untilWaiting } from '../../helper.js'
import { addKeys, insertOnboarding, insertTenant, rings, rotate, sealedOf, secretOf, tokensOf } from './rotated.js'

const former = createVault({ keyRing: rings.before, format: 'v1' })
const present = createVault({ keyRing: rings.before })
const later = createVault({ keyRing: rings.after })

/** Everything that is stored, without the sealed values and the counts of keys. */
async function storedWithoutSecrets (url: string): Promise<unknown> {
  const tables = await query(
    url,
    `select tablename as name from pg_tables where schemaname = 'public'
     and tablename not in ('vault_keys', 'config_counts', 'config_count_changes') order by 1`
  )
  const stored: unknown[] = []
  for (const { name } of tables) {
    const rows = await query(url, `select to_jsonb(t) - $1::text[] as row from ${String(name)} t order by 1`, [
      [...secretColumns, 'former']
    ])
    stored.push([name, rows])
  }
  return stored
}

await t.test('a rotation seals every stored secret with the first key, and changes nothing else', async (t) => {
  const url = await createDatabase(t)
  await addKeys(url, rings.both)
  for (const [tenant, vault] of [['acme', former], ['other', present]] as const) {
    const { access_token: token } = await insertTenant(url, vault, tenant)
    await insertOnboarding(url, tenant, { token, former: vault.seal('an older token', tenant, 'access_token') })
    await insertOnboarding(url, tenant, { status: 'completed', former: token })
    await query(url, "update token_watch set status = 'ok', next_check_at = '2999-01-01Z'")
  }
  await query(url, "insert into tenant_configs (tenant_id) values ('empty')")
  await insertOnboarding(url, 'new', { token: former.seal('granted', 'new', 'access_token') })
  const before = await storedWithoutSecrets(url)
  const listener = await connect(t, url)
  const notifications: unknown[] = []
  listener.on('notification', (message) => { notifications.push(message) })
  await listener.query('listen tenant_configs')

  const reports: number[][] = []
  const rotation = await rotate(url, { report: (...counts) => { reports.push(counts) } })
  t.same(rotation, {
    keyId: 'k2',
    replaced: 15,
    unreadable: { count: 0, places: [] },
    counts: [{ key_id: 'k2', format: 'v2', count: 15 }]
  })
  t.same(reports, [[14, 15], [15, 15]])

  for (const tenant of ['acme', 'other']) {
    const sealed = await sealedOf(url, tenant)
    for (const column of secretColumns) {
      t.match(sealed[column], /^v2\.k2\./)
      t.equal(later.open(String(sealed[column]), tenant, column), secretOf(tenant, column))
    }
    const [waiting, completed] = await tokensOf(url, tenant)
    const { access_token: token } = sealed
    t.same([waiting?.[0], completed], [token, [null, token]], 'equal tokens stay equal')
    t.equal(later.open(String(waiting?.[1]), tenant, 'access_token'), 'an older token')
  }
  t.equal(later.open(String((await tokensOf(url, 'new'))[0]?.[0]), 'new', 'access_token'), 'granted')
  t.same(await storedWithoutSecrets(url), before)
  await listener.query("notify tenant_configs, 'last'")
  t.match(notifications, [{ payload: 'last' }])
  t.same(
    await query(url, 'select key_id, format, seals::int from vault_keys order by 1'),
    [{ key_id: 'k1', format: 'v2', seals: 0 }, { key_id: 'k2', format: 'v2', seals: 11 }],
    'equal values are sealed once'
  )
})

await t.test('a rotation of what is rotated replaces nothing', async (t) => {
  const url = await createDatabase(t)
  await addKeys(url, rings.both)
  await insertTenant(url, present, 'acme')
  await rotate(url)
  const sealed = await sealedOf(url, 'acme')
  t.match(await rotate(url), { replaced: 0, counts: [{ key_id: 'k2', format: 'v2', count: 4 }] })
  t.same(await sealedOf(url, 'acme'), sealed)
})

await t.test('a rotation to v1 turns back what a former version cannot open', async (t) => {
  const url = await createDatabase(t)
  await addKeys(url, rings.before)
  const { access_token: token } = await insertTenant(url, present, 'acme')
  await insertOnboarding(url, 'acme', { token, former: token })
  const counts = [{ key_id: 'k1', format: 'v1', count: 6 }]
  t.match(await rotate(url, { keyRing: rings.before, format: 'v1' }), { replaced: 6, counts })
  const sealed = await sealedOf(url, 'acme')
  t.match(sealed['access_token'], /^v1\.k1\./)
  t.same(await tokensOf(url, 'acme'), [[sealed['access_token'], sealed['access_token']]])
  t.same(await query(url, 'select format from vault_keys'), [{ format: 'v1' }])
})

await t.test('a value that does not open is named, stays as it is, and stops no other', async (t) => {
  const url = await createDatabase(t)
  await addKeys(url, rings.both)
  const stranger = createVault({ keyRing: rings.after.replace('k2', 'k9') })
  const { access_token: token } = await insertTenant(url, present, 'acme')
  // The first two are moved; the third is not sealed, and the last one sealed by a key that is not in the ring.
  const tampered = ['verify_token', 'refresh_token'].map((column) => [column, token])
  tampered.push(['fb_app_secret', '__proto__'])
  await query(
    url,
    'update tenant_configs set verify_token = $1, refresh_token = $1, fb_app_secret = $2',
    [token, '__proto__']
  )
  await insertTenant(url, stranger, 'stranger')
  await insertTenant(url, present, 'other')
  const rotation = await rotate(url)
  t.equal(rotation.replaced, 9, 'with those of the version that the update made')
  t.equal(rotation.unreadable.count, 7)
  t.same(new Set(rotation.unreadable.places.map(({ tenant_id, column }) => `${tenant_id} ${column}`)), new Set([
    'acme fb_app_secret', 'acme verify_token', 'acme refresh_token',
    'stranger access_token', 'stranger fb_app_secret', 'stranger verify_token', 'stranger refresh_token'
  ]))
  t.match(await sealedOf(url, 'acme'), { access_token: /^v2\.k2\./, ...Object.fromEntries(tampered) })
  t.match(await sealedOf(url, 'other'), { access_token: /^v2\.k2\./ })
  t.same(rotation.counts, [
    { key_id: 'k1', format: 'v2', count: 2 }, { key_id: 'k2', format: 'v2', count: 9 },
    { key_id: 'k9', format: 'v2', count: 4 }, { key_id: null, format: null, count: 1 }
  ])
})

await t.test('a hundred unreadable values are named, and all are counted', async (t) => {
  const url = await createDatabase(t)
  await addKeys(url, rings.both)
  await query(
    url,
    "insert into tenant_configs (tenant_id, verify_token) select i, 'v1.k1.x' from generate_series(1, 101) i"
  )
  const { unreadable } = await rotate(url)
  t.equal(unreadable.count, 101)
  t.equal(unreadable.places.length, 100)
})

await t.test('a tenant whose onboarding runs is replaced after its lease, and the others at once', async (t) => {
  const url = await createDatabase(t)
  await addKeys(url, rings.both)
  const { access_token: token } = await insertTenant(url, present, 'leased')
  await insertOnboarding(url, 'leased', { holder: true, leaseEnds: -8, token })
  await insertTenant(url, present, 'free')
  t.match(await rotate(url), { replaced: 4, unreadable: { count: 0 } })
  t.match(await sealedOf(url, 'leased'), { access_token: token })
  t.same(await tokensOf(url, 'leased'), [[token, null]])
  t.match(await query(url, 'select holder is null as released from onboardings'), [{ released: false }])
  t.match(await rotate(url, { waitMs: 30_000 }), { replaced: 5, counts: [{ key_id: 'k2', count: 9 }] })
  t.same(
    await query(url, 'select holder is null as released from onboardings'),
    [{ released: true }],
    'the executor of the ended lease loses it'
  )
})

await t.test('a tenant whose row is locked is replaced later, and the others at once', aboutConnections, async (t) => {
  const url = await createDatabase(t)
  await addKeys(url, rings.both)
  for (const tenant of ['one', 'locked', 'two']) await insertTenant(url, present, tenant)
  const lockHolder = await connect(t, url)
  await lockHolder.query("begin; select from tenant_configs where tenant_id = 'locked' for share")
  t.match(await rotate(url), { replaced: 8, unreadable: { count: 0 } })
  t.match(await sealedOf(url, 'locked'), { access_token: /^v2\.k1\./ })
  const rotation = rotate(url, { waitMs: 30_000 })
  await untilWaiting(url, 1)
  await lockHolder.query("update tenant_configs set verify_token = null where tenant_id = 'locked'; commit")
  t.match(await rotation, { replaced: 7 }, 'the row, and the version that the update made')
  t.match(await sealedOf(url, 'locked'), { access_token: /^v2\.k2\./, verify_token: null })
})

await t.test('two rotations at once share the work', async (t) => {
  const url = await createDatabase(t)
  await addKeys(url, rings.both)
  for (let number = 0; number < 120; number++) await insertTenant(url, present, `tenant ${number}`)
  const both = await Promise.all([1, 2].map(async () => await rotate(url, { waitMs: 30_000 })))
  t.equal(both.reduce((sum, { replaced }) => sum + replaced, 0), 480)
  for (const { counts } of both) t.same(counts, [{ key_id: 'k2', format: 'v2', count: 480 }])
})

await t.test('a rotation stops when another one sets another format', async (t) => {
  const url = await createDatabase(t)
  await addKeys(url, rings.both)
  await insertTenant(url, present, 'acme')
  const lockHolder = await connect(t, url)
  await lockHolder.query("begin; update vault_keys set format = 'v1' where key_id = 'k2'")
  const rotation = t.rejects(
    rotate(url, { waitMs: 30_000 }),
    { message: 'Another rotation has set another format than v2 meanwhile.' }
  )
  await untilWaiting(url, 1)
  await lockHolder.query('commit')
  await rotation
  t.match(await sealedOf(url, 'acme'), { access_token: /^v2\.k1\./ })
})

await t.test('a rotation refuses a ring that does not fit the database', async (t) => {
  const url = await createDatabase(t)
  await addKeys(url, rings.before)
  await insertTenant(url, present, 'acme')
  await t.rejects(rotate(url), {
    message: 'No instance has started with the key k2 yet. Restart all instances with it, then try again.'
  })
  await addKeys(url, rings.both)
  const other = rings.both.replace(/k1:.*/, `k1:${Buffer.alloc(32).toString('base64')}`)
  await t.rejects(rotate(url, { keyRing: other }), /ENCRYPTION_KEYS holds another key under the id k1 /)
  t.match(await sealedOf(url, 'acme'), { access_token: /^v2\.k1\./ })
})
