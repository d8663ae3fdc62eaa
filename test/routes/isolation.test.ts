import t from '../run/tap.js'
import { connect, untilWaiting } from '../helper.js'
import { client, config, configs, full, type Answer } from './client.js'

const { as, admin, call, rows, sql, databaseUrl } = await client(t)
const tally = (answers: Answer[]) => answers.map(({ is }) => is).sort()

await t.test('one of several concurrent creates succeeds', async (t) => {
  for (let i = 0; i < 25; i++) {
    const answers = await Promise.all(
      [1, 2, 3, 4].map((n) => call(
        as(`race-${i}`, `user-${n}`),
        'POST',
        config,
        { access_token: `token-of-${n}-0123456789`, waba_id: `waba-${n}`, phone_number_id: `race-phone-${i}` }
      ))
    )
    t.strictSame(tally(answers), ['201', ...Array(3).fill('409 CONFIG_EXISTS')])
    const winner = answers.findIndex(({ is }) => is === '201') + 1
    t.match((await call(as(`race-${i}`), 'GET', `${config}/full`)).body, {
      user_id: `user-${winner}`,
      waba_id: `waba-${winner}`,
      access_token: `token-of-${winner}-0123456789`
    })
  }
})

await t.test('several tenants can POST and PUT the same phone number without a conflict', async (t) => {
  const created = await Promise.all(
    [1, 2, 3].map((n) => call(as(`claim-${n}`), 'POST', config, { waba_id: 'waba', phone_number_id: 'claimed' }))
  )
  t.strictSame(tally(created), ['201', '201', '201'])
  await sql("update tenant_configs set last_verified_at = now() where tenant_id = 'claim-1'")
  t.equal((await call(as('claim-4'), 'POST', config, { phone_number_id: 'claimed' })).is, '201', 'with an owner')
  t.equal((await call(as('claim-4'), 'PUT', config, { waba_id: 'waba', phone_number_id: 'claimed' })).is, '200')
})

await t.test('concurrent writes of one tenant are all stored', async (t) => {
  const who = as('busy')
  await call(who, 'POST', config, { is_active: undefined, waba_id: '1' })
  const answers = await Promise.all(
    Object.entries(full).map(([name, value]) => call(who, 'PUT', config, { [name]: value }))
  )
  t.ok(answers.every(({ is }) => is === '200'))
  // The write of the token clears the expiry when it is the later one.
  const { token_expires_at, ...others } = full
  t.match((await call(who, 'GET', `${config}/full`)).body, others)
})

await t.test('concurrent with creates, delete-all deletes the confirmed number or nothing', async (t) => {
  await sql('delete from tenant_configs')
  let stored = 0
  for (let i = 0; i < 12; i++) {
    const [deletion, ...created] = await Promise.all([
      call(admin, 'DELETE', `${configs}/delete-all?confirm=delete-all:${stored}`),
      ...[1, 2, 3].map((n) => call(as(`wave-${i}-${n}`), 'POST', config, { waba_id: '1' }))
    ])
    t.ok(created.every(({ is }) => is === '201'))
    if (deletion.is === '200') t.equal(deletion.body.deleted, stored)
    else t.equal(deletion.is, '409 CONFIRMATION_MISMATCH')
    const left = (await rows()).length
    t.equal(left, deletion.is === '200' ? 3 : stored + 3)
    stored = left
  }
})

await t.test('a write that PostgreSQL aborts because of a deadlock is retried once', async (t) => {
  const away = '503 DATABASE_UNAVAILABLE'
  await sql(`create sequence meetings;
    create function meet() returns trigger language plpgsql security definer as $$ begin
    if nextval('meetings') <= tg_argv[0]::int then raise sqlstate '40P01'; end if; return new; end $$`)
  for (const [meetings, create, update] of [[1, '201', '200'], [2, away, away]] as const) {
    await sql(
      `create trigger meet before insert or update on tenant_configs for each row execute function meet(${meetings})`
    )
    await sql('alter sequence meetings restart')
    t.equal((await call(as(`meets-${meetings}`), 'POST', config, { waba_id: '1' })).is, create)
    await sql('alter sequence meetings restart')
    t.equal((await call(as('meets-1'), 'PUT', config, { waba_id: '2' })).is, update)
    await sql('drop trigger meet on tenant_configs')
  }
  await sql('drop function meet; drop sequence meetings')
})

await t.test('one of several concurrent delete-alls succeeds', async (t) => {
  for (let i = 0; i < 10; i++) {
    await sql('delete from tenant_configs')
    await sql("insert into tenant_configs (tenant_id) select 'many-' || n from generate_series(1, 30) n")
    const answers = await Promise.all(
      [1, 2, 3].map(() => call(admin, 'DELETE', `${configs}/delete-all?confirm=delete-all:30`))
    )
    t.strictSame(tally(answers), ['200', '409 CONFIRMATION_MISMATCH', '409 CONFIRMATION_MISMATCH'])
  }
})

await t.test('delete-all counts the rows that exist when it deletes', async (t) => {
  for (const [change, is, left] of [
    ["delete from tenant_configs where tenant_id = 'many-2'", '409 CONFIRMATION_MISMATCH', 2],
    ["update tenant_configs set waba_id = 'other' where tenant_id = 'many-2'", '200', 0]
  ] as const) {
    await sql('delete from tenant_configs')
    await sql("insert into tenant_configs (tenant_id) select 'many-' || n from generate_series(1, 3) n")
    const other = await connect(t, databaseUrl)
    await other.query(`begin; ${change}`)
    const deletion = call(admin, 'DELETE', `${configs}/delete-all?confirm=delete-all:3`)
    await untilWaiting(databaseUrl, 1)
    await other.query('commit')
    t.equal((await deletion).is, is, change)
    t.equal((await rows()).length, left)
  }
})

await t.test('a sealed secret is unreadable in the row of another tenant', async (t) => {
  await call(as('tenant-a'), 'POST', config, { waba_id: '1' })
  await call(as('tenant-b'), 'POST', config, full)
  await sql(
    `update tenant_configs a set access_token = b.access_token from tenant_configs b
      where a.tenant_id = 'tenant-a' and b.tenant_id = 'tenant-b'`
  )
  const { is, body } = await call(as('tenant-a'), 'GET', `${config}/full`)
  t.equal(is, '500 SECRET_UNREADABLE')
  t.notMatch(JSON.stringify(body), full.access_token)
  const masked = await call(as('tenant-a'), 'GET', config)
  t.match(masked, { is: '200', body: { access_token: `****${full.access_token.slice(-4)}` } }, 'its tail moves with it')
})
