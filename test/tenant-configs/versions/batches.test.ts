import type { Test } from 'tap'
import t from '../../run/tap.js'
import { client, config, configs, full } from '../../routes/client.js'

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const url = `${configs}/restore`

/** A service with a tenant for each id, and functions of an admin. */
async function service (t: Test, ids: string[]) {
  const it = await client(t)
  const { as, admin, call, sql } = it
  for (const id of ids) t.equal((await call(as(id, `user of ${id}`), 'POST', config, full)).is, '201')
  return {
    ...it,
    restore: async (body: object) => await call(admin, 'POST', url, body),
    deleteAll: async () => {
      const { body: { confirm } } = await call(admin, 'DELETE', `${configs}/delete-all`)
      const { is, body } = await call(admin, 'DELETE', `${configs}/delete-all?confirm=${String(confirm)}`)
      t.equal(is, '200')
      return String(body.batch_id)
    },
    stored: async () => (await sql('select tenant_id from tenant_configs order by 1')).map(({ tenant_id: id }) => id)
  }
}

await t.test('a delete-all is restored, but for the tenants that exist again', async (t) => {
  const { as, call, sql, stored, restore, deleteAll } = await service(t, ['a', 'b', 'c', 'd'])
  await sql("update tenant_configs set last_verified_at = now(), onboarding_completed = true where tenant_id = 'a'")
  const before = await sql('select * from tenant_configs order by tenant_id')
  const batch = await deleteAll()
  t.match(batch, uuid)
  t.same(await stored(), [])
  t.same(await sql('select distinct batch_id from tenant_config_versions where changed = $1', ['{deleted}']),
    [{ batch_id: batch }])
  t.equal((await call(as('c'), 'POST', config, { waba_id: 'new' })).is, '201')
  t.strictSame(await restore({ batch_id: batch }).then(({ is, body }) => [is, body]),
    ['200', { restored: 3, skipped: [{ tenant_id: 'c', code: 'CONFIG_EXISTS' }], next_cursor: null }])
  t.same(await stored(), ['a', 'b', 'c', 'd'])
  const after = await sql('select * from tenant_configs order by tenant_id')
  for (const [i, row] of after.entries()) {
    if (row['tenant_id'] === 'c') continue
    const unverified = { id: 0, onboarding_completed: false, last_verified_at: null, updated_at: 0 }
    t.same({ ...row, ...unverified }, { ...before[i], ...unverified })
    t.match(row, { onboarding_completed: false, last_verified_at: null })
  }
  t.match((await call(as('a'), 'GET', `${config}/full`)).body, full)
  t.match((await call(as('c'), 'GET', config)).body, { waba_id: 'new', access_token: null })
  t.same((await restore({ batch_id: batch.toUpperCase() })).body, {
    restored: 0,
    skipped: ['a', 'b', 'c', 'd'].map((id) => ({ tenant_id: id, code: 'CONFIG_EXISTS' })),
    next_cursor: null
  }, 'a second request restores nothing')
})

await t.test('a tenant that had a configuration since, or whose secrets do not open, is left alone', async (t) => {
  const { as, call, sql, stored, restore, deleteAll } = await service(t, ['a', 'b', 'c', 'd', 'e'])
  const batch = await deleteAll()
  t.equal((await call(as('b'), 'POST', config, { waba_id: 'new' })).is, '201')
  t.equal((await call(as('b'), 'DELETE', config)).is, '204')
  await sql("update tenant_config_versions set verify_token = 'v2.gone..AAAA' where tenant_id in ('c', 'd')")
  t.equal((await call(as('d'), 'POST', config, { waba_id: 'new' })).is, '201')
  t.equal((await call(as('e'), 'DELETE', `${config}?purge=true`)).is, '204')
  t.same((await restore({ batch_id: batch })).body, {
    restored: 1,
    skipped: [
      { tenant_id: 'b', code: 'VERSION_SUPERSEDED' }, { tenant_id: 'c', code: 'SECRET_UNREADABLE' },
      { tenant_id: 'd', code: 'CONFIG_EXISTS' }
    ],
    next_cursor: null
  })
  t.same(await stored(), ['a', 'd'])
  t.same((await restore({ tenant_id: 'b' })).body, { restored: 1, skipped: [], next_cursor: null })
  t.match((await call(as('b'), 'GET', config)).body, { waba_id: 'new', access_token: null })
})

await t.test('an admin restores the last deleted state of a tenant', async (t) => {
  const { as, call, sql, restore } = await service(t, ['a'])
  t.equal((await restore({ tenant_id: 'a' })).is, '404 VERSION_NOT_FOUND', 'it was never deleted')
  await call(as('a'), 'PUT', config, { callback_url: null })
  await sql("delete from tenant_configs where tenant_id = 'a'")
  t.same((await restore({ tenant_id: 'a' })).body, { restored: 1, skipped: [], next_cursor: null })
  const { user_id, callback_url, access_token } = (await call(as('a'), 'GET', `${config}/full`)).body
  t.same({ user_id, callback_url, access_token },
    { user_id: 'user of a', callback_url: null, access_token: full.access_token })
  t.same((await restore({ tenant_id: 'a' })).body,
    { restored: 0, skipped: [{ tenant_id: 'a', code: 'CONFIG_EXISTS' }], next_cursor: null })
  await sql('truncate tenant_configs')
  t.same((await restore({ tenant_id: 'a' })).body, { restored: 1, skipped: [], next_cursor: null })
})

await t.test('the loader serves the restored tenants', async (t) => {
  const { app, deleteAll, restore } = await service(t, ['a', 'b'])
  const batch = await deleteAll()
  const isServed = async () => await Promise.all(['a', 'b'].map(async (id) =>
    (await app.configLoader.forTenant(id)).hasTenantConfig()))
  t.same(await isServed(), [false, false])
  await restore({ batch_id: batch })
  t.same(await isServed(), [true, true])
})

await t.test('a request restores at most 10,000 tenants, and the cursor leads to the others', async (t) => {
  const { sql, stored, restore, deleteAll } = await service(t, [])
  const insert = "insert into tenant_configs (tenant_id) select 'many ' || lpad(i::text, 5, '0')"
  await sql(`${insert} from generate_series(1, 10500) i`)
  const batch = await deleteAll()
  await sql(`${insert} from generate_series(2, 10500, 2) i`)
  const first = await restore({ batch_id: batch })
  t.match(first, { is: '200', body: { restored: 5000, skipped: { length: 5000 }, next_cursor: String } })
  const second = await restore({ batch_id: batch, cursor: first.body.next_cursor })
  t.match(second, { is: '200', body: { restored: 250, skipped: { length: 250 }, next_cursor: null } })
  t.equal((await stored()).length, 10_500)
  const cursor = Buffer.from('many 10500').toString('base64url')
  t.same((await restore({ batch_id: batch, cursor })).body, { restored: 0, skipped: [], next_cursor: null })
  await sql("delete from tenant_config_versions where tenant_id > 'many 10000'")
  t.match((await restore({ batch_id: batch })).body,
    { restored: 0, skipped: { length: 10_000 }, next_cursor: null }, 'exactly 10,000')
})

await t.test('an unknown batch, a hostile body and a hostile cursor are refused', async (t) => {
  const { sql, restore, deleteAll, call, as, admin } = await service(t, ['a'])
  const batch = await deleteAll()
  const unknown = '6f1f6ad8-5f0c-4b0e-8f43-0d6b0f1a2b3c'
  for (const body of [{ batch_id: unknown }, { tenant_id: 'nobody' }, { tenant_id: batch }]) {
    t.equal((await restore(body)).is, '404 VERSION_NOT_FOUND')
  }
  for (const body of [
    {}, [], null, 'a', { tenant_id: 'a', batch_id: batch }, { tenant_id: 'a', cursor: 'YQ' }, { cursor: 'YQ' },
    { batch_id: 'a' }, { batch_id: `${batch} ` }, { batch_id: null }, { batch_id: [batch] }, { tenant_id: '' },
    { tenant_id: 'a\0' }, { tenant_id: 'a'.repeat(101) }, { tenant_id: 1 }, { tenant_id: 'a', force: true },
    { batch_id: batch, cursor: 1 }, { batch_id: `{${batch}}` }, { batch_id: batch.replaceAll('-', '') }
  ]) t.match((await restore(Object(body))).is, /^400 VALIDATION_FAILED$/, JSON.stringify(body))
  t.equal((await call(admin, 'POST', url)).is, '400 VALIDATION_FAILED')
  for (const cursor of ['', 'a', '!!!!', 'YQ==', 'null', Buffer.from('a\0').toString('base64url'), 'A'.repeat(8000)]) {
    t.equal((await restore({ batch_id: batch, cursor })).is, '400 INVALID_CURSOR', cursor.slice(0, 20))
  }
  t.equal((await call(as('a'), 'POST', url, { batch_id: batch })).is, '403 FORBIDDEN')
  t.same(await sql('select from tenant_configs'), [])
  await sql('delete from tenant_config_versions')
  t.equal((await restore({ batch_id: batch })).is, '404 VERSION_NOT_FOUND', 'when its versions are no longer kept')
})

await t.test('two restores of a batch at once restore each tenant once', async (t) => {
  const { sql, stored, restore, deleteAll } = await service(t, [])
  await sql("insert into tenant_configs (tenant_id) select 'many ' || i from generate_series(1, 1200) i")
  const batch = await deleteAll()
  const answers = await Promise.all([1, 2, 3].map(async () => (await restore({ batch_id: batch })).body))
  t.equal(answers.reduce((sum, { restored }) => sum + Number(restored), 0), 1200)
  t.equal((await stored()).length, 1200)
})
