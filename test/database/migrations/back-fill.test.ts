import type { Test } from 'tap'
import t from '../../run/tap.js'
import { migrate } from '../../../src/database/migrations/migrations.js'
import { firstMigrations, formerSchema } from '../../fixtures/migrations.js'
import { connect, createDatabase, query, untilWaiting } from '../../helper.js'

const identities = async (url: string) =>
  (await query(url, 'select tenant_id, waba_id, phone_number_id from verified_identities order by 1')).map(
    (row) => Object.values(row)
  )
const callbacks = async (url: string) =>
  (await query(url, 'select phone_number_id from phone_callbacks order by 1')).map(
    ({ phone_number_id: number }) => number
  )

/** A database as the version before migration 0003 left it. */
async function createFormer (t: Test, rows = 'select'): Promise<string> {
  const url = await createDatabase(t, { empty: true })
  await formerSchema(t, url)
  await query(url, rows)
  return url
}

/** The onboarding steps that the former version writes once the account is subscribed. */
const subscribed = (callback: string, day: number) => JSON.stringify([
  { name: 'exchange', status: 'done', at: '2026-10-01T00:00:00.000Z', evidence: {} },
  { name: 'subscribe', status: 'done', at: `2026-11-0${day}T00:00:00.000Z`, evidence: { waba_id: '1', callback } }
])

await t.test('only onboarded or verified rows become verified identities', async (t) => {
  const url = await createFormer(t, `
    insert into tenant_configs (tenant_id, waba_id, phone_number_id, onboarding_completed, last_verified_at) values
    ('onboarded', '1', '1', true, null), ('verified', '1', null, false, '2026-11-01Z'),
    ('squatter', '1', '2', false, null), ('empty', null, '3', true, now())`)
  await migrate(url)
  t.same(await identities(url), [['onboarded', '1', '1'], ['verified', '1', null]])
  t.same(
    await query(url, "select from verified_identities where tenant_id = 'verified' and verified_at = '2026-11-01Z'"),
    [{}]
  )
})

await t.test('the back-fill covers more rows than a batch and ids with gaps', async (t) => {
  const url = await createFormer(t, `
    insert into tenant_configs (id, tenant_id, waba_id, phone_number_id, last_verified_at)
    select i * 3, 't' || i, 'w' || i, 'p' || i, case when i % 2 = 0 then now() end from generate_series(1, 5001) i`)
  await migrate(url)
  t.same(await query(url, 'select count(*)::int as count from verified_identities'), [{ count: 2500 }])
})

await t.test('a number has its own callback if the last subscription set one for the number', async (t) => {
  const url = await createFormer(t)
  const onboarding = async (number: string | null, steps: string) => await query(url,
    "insert into onboardings (tenant_id, code_hash, steps, phone_number_id) values ('acme', gen_random_uuid()::text, " +
      '$1, $2)', [steps, number])
  await onboarding('own', subscribed('account', 1))
  await onboarding('own', subscribed('phone_number', 2))
  await onboarding('former', subscribed('phone_number', 1))
  await onboarding('former', subscribed('account', 2))
  await onboarding('former', subscribed('phone_number', 1))
  await onboarding('taken back', subscribed('phone_number', 1))
  await onboarding('taken back', subscribed('none', 2))
  await onboarding('failed', subscribed('phone_number', 1).replaceAll('"done"', '"failed"'))
  await onboarding(null, subscribed('phone_number', 1))
  await migrate(url)
  t.same(await callbacks(url), ['own'])
})

await t.test('writes of the former version during and after the migration are not lost', async (t) => {
  const url = await createFormer(t, `
    insert into tenant_configs (tenant_id, waba_id, phone_number_id, last_verified_at) values
    ('moves', '1', '1', now()), ('stays', '2', '2', now());
    insert into onboardings (tenant_id, code_hash, steps, phone_number_id) values ('stays', '1', '[]', '2')`)
  await migrate(url, { folder: firstMigrations(t, 4) })
  const writer = await connect(t, url)
  await writer.query(
    "begin; update tenant_configs set waba_id = '3', last_verified_at = null where tenant_id = 'moves'"
  )
  const migrating = migrate(url)
  await untilWaiting(url, 1)
  await writer.query('commit')
  await migrating
  t.same(await identities(url), [['stays', '2', '2']])

  await query(url, "update tenant_configs set last_verified_at = now() where tenant_id = 'moves'")
  t.same(await identities(url), [['moves', '3', '1'], ['stays', '2', '2']])
  const write = async (steps: string) => await query(url, 'update onboardings set steps = $1', [steps])
  await write(subscribed('phone_number', 3))
  t.same(await callbacks(url), ['2'])
  await query(url, 'delete from phone_callbacks')
  await write(subscribed('phone_number', 3).replace('"exchange"', '"inspect"'))
  t.same(await callbacks(url), [], 'another step of the onboarding sets no callback')
  await write(subscribed('phone_number', 4))
  await write(subscribed('account', 5))
  t.same(await callbacks(url), [])
})
