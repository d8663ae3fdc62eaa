import t from '../run/tap.js'
import { client, configs } from './client.js'

const { admin, call, sql } = await client(t)
const all = `${configs}/delete-all`

await t.test('the statistics count configurations, tokens and token states', async (t) => {
  const noNumbers = { ok: 0, pending: 0, low_quality: 0, restricted: 0, missing: 0, none: 0, unknown: 0 }
  const none = { ok: 0, expiring: 0, expired: 0, revoked: 0, unverified: 0, reauth_required: 0 }
  const empty = {
    total: 0,
    active: 0,
    inactive: 0,
    onboarded: 0,
    pending: 0,
    tokens: { expired: 0, expiring_7d: 0, expiring_30d: 0, no_expiry: 0, missing: 0 },
    token_status: none,
    number_status: noNumbers,
    keys: { t1: 1 }
  }
  t.strictSame((await call(admin, 'GET', `${configs}/stats`)).body, empty)
  await sql(`insert into tenant_configs (tenant_id, access_token, token_expires_at, is_active, onboarding_completed)
    select 't' || row_number() over (), token, now() + away::interval, active, onboarded from (values
      ('x', '-1 second', true, true), ('x', '-2 years', false, true),
      ('x', '10 seconds', true, true), ('x', '6 days 23 hours', true, false), ('x', '7 days 1 hour', true, false),
      ('x', '29 days 23 hours', true, false), ('x', '30 days 1 hour', true, true),
      ('x', null, true, true), ('x', null, false, false), ('x', null, true, false),
      (null, '-1 day', true, false), (null, '1 day', true, false), (null, null, false, false),
      (null, '-1 day', false, false)
    ) rows (token, away, active, onboarded)`)
  const { is, body } = await call(admin, 'GET', `${configs}/stats`)
  t.strictSame([is, body], ['200', {
    ...{ total: 14, active: 10, inactive: 4, onboarded: 5, pending: 9 },
    tokens: { expired: 2, expiring_7d: 2, expiring_30d: 4, no_expiry: 3, missing: 4 },
    token_status: { ...none, unverified: 10 },
    number_status: { ...noNumbers, none: 14 },
    keys: { t1: 1 }
  }])

  const statuses = Object.keys(none)
  for (const [i, status] of statuses.entries()) {
    await sql(
      `update token_watch set status = $1
        where tenant_id in (select tenant_id from token_watch where status = $2 order by tenant_id limit $3)`,
      [status, 'unverified', [3, 1, 2, 1, 0, 1][i]]
    )
  }
  t.strictSame(
    (await call(admin, 'GET', `${configs}/stats`)).body.token_status,
    { ok: 3, expiring: 1, expired: 2, revoked: 1, unverified: 2, reauth_required: 1 }
  )

  await sql("update tenant_configs set phone_number_id = id where tenant_id <= 't14' or tenant_id = 't2'")
  t.match((await call(admin, 'GET', `${configs}/stats`)).body.number_status, { ...noNumbers, none: 7, unknown: 7 })
  await sql(`insert into phone_numbers (tenant_id, phone_number_id, number_status)
    select tenant_id, phone_number_id, case row_number() over (order by id)
      when 1 then 'ok' when 2 then 'pending' when 3 then 'restricted' when 4 then 'missing' when 5 then 'missing'
      else 'unknown' end
    from tenant_configs where phone_number_id is not null limit 6`)
  t.match(
    (await call(admin, 'GET', `${configs}/stats`)).body.number_status,
    { ok: 1, pending: 1, low_quality: 0, restricted: 1, missing: 2, none: 7, unknown: 2 }
  )
})

await t.test('delete-all requires a confirmation with the current count', async (t) => {
  for (const url of [all, `${all}?confirm=`]) {
    const { is, body } = await call(admin, 'DELETE', url)
    t.strictSame([is, body.confirm], ['428 CONFIRMATION_REQUIRED', 'delete-all:14'])
  }
  for (const confirm of [
    'yes', 'true', 'delete-all', 'delete-all:', 'delete-all:13', 'delete-all:15', 'delete-all:014', 'delete-all:14%20',
    '%20delete-all:14', 'delete-all:%2B14', 'delete-all:-14', 'delete-all:14.0',
    'delete-all:0xe', 'delete-all:1e1', 'DELETE-ALL:14', 'delete-all:14%00', 'delete-all:14%0a',
    'delete-all:2147483648', 'delete-all:999999999999999', `delete-all:${'9'.repeat(5000)}`, '%F0%9F%98%80'
  ]) {
    t.equal(
      (await call(admin, 'DELETE', `${all}?confirm=${confirm}`)).is,
      '409 CONFIRMATION_MISMATCH',
      confirm.slice(0, 40)
    )
  }
  for (const query of [
    'confirm=delete-all:14&confirm=delete-all:14', 'confirm=delete-all:14&force=1', 'Confirm=delete-all:14', 'x=1'
  ]) {
    t.equal((await call(admin, 'DELETE', `${all}?${query}`)).is, '400 VALIDATION_FAILED', query)
  }
  t.equal((await call(admin, 'DELETE', all, { confirm: 'delete-all:14' })).is, '400 VALIDATION_FAILED')
  await sql("insert into tenant_configs (tenant_id) values ('late')")
  t.equal(
    (await call(admin, 'DELETE', `${all}?confirm=delete-all:14`)).is,
    '409 CONFIRMATION_MISMATCH',
    'the count has changed'
  )
  t.same(await sql('select count(*)::int from tenant_configs'), [{ count: 15 }])

  t.strictSame(
    await call(admin, 'DELETE', `${all}?confirm=delete-all:15`).then(({ is, body }) => [is, body.deleted]),
    ['200', 15]
  )
  t.same(await sql('select count(*)::int from tenant_configs'), [{ count: 0 }])
  t.equal((await call(admin, 'DELETE', `${all}?confirm=delete-all:15`)).is, '409 CONFIRMATION_MISMATCH', 'a repeat')
  t.equal((await call(admin, 'DELETE', all)).body.confirm, 'delete-all:0')
  t.match((await call(admin, 'DELETE', `${all}?confirm=delete-all:0`)).body, { deleted: 0 })
})
