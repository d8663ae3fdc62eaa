import t from '../run/tap.js'
import { config } from '../routes/client.js'
import { accountUpdate, uniqueNumber, webhookService } from './deliveries.js'

const { app, as, call, sql, log, deliver, tenants, isActive, assertNoWrites } = await webhookService(t)

await t.test('each event of a lost account deactivates its tenants and records the reason', async (t) => {
  for (const event of ['PARTNER_REMOVED', 'PARTNER_APP_UNINSTALLED', 'ACCOUNT_DELETED']) {
    const [waba = '', other = ''] = await tenants(2)
    const [second = '', bare = ''] = [`${waba} too`, `${waba} without a token`]
    await call(as(second), 'POST', config, { waba_id: waba, access_token: 'x', phone_number_id: `phone on ${waba}` })
    await call(as(bare), 'POST', config, { waba_id: waba })
    for (const id of [waba, second, bare, other]) await app.configLoader.forTenant(id)
    const transitions: unknown[] = []
    t.teardown(app.events.onEvent(({ tenant_id, to, reason }) => {
      transitions.push([tenant_id, to, reason])
    }))

    t.equal(await deliver(accountUpdate(event, { waba })), '200')
    for (const id of [waba, second, bare]) {
      t.equal(await isActive(id), false, id)
      t.equal((await app.configLoader.forTenant(id)).hasTenantConfig(), false, 'the cache is invalidated')
      t.match(log(), new RegExp(`"level":40[^\\n]*"tenant_id":"${id}","waba_id":"${waba}","event":"${event}"`))
    }
    t.equal(await isActive(other), true)
    t.same(transitions.sort(), [
      [waba, 'revoked', event], [second, 'revoked', event], ...[waba, second, bare].map((id) => [id, 'lost', event])
    ].sort())
    for (const id of [waba, second]) {
      t.match(
        await app.tokenWatch.healthOf(id),
        { token_status: 'revoked', reason: event, account_status: 'lost', account_reason: event }
      )
    }
    t.match(
      await app.tokenWatch.healthOf(other),
      { token_status: 'unverified', reason: null, account_status: 'ok', account_reason: null }
    )
  }
})

await t.test('another event, or a body without a valid account id, changes nothing', async (t) => {
  const [waba = ''] = await tenants(1)
  const all = [
    'AD_ACCOUNT_LINKED', 'PARTNER_ADDED', 'PARTNER_APP_INSTALLED', 'DISABLED_UPDATE', 'ACCOUNT_VIOLATION',
    'partner_removed', 'PARTNER_REMOVED ', '', 'toString'
  ]
  const change = accountUpdate('PARTNER_REMOVED', { waba }).entry[0]?.changes[0]
  await assertNoWrites(t, async () => {
    for (const event of all) t.equal(await deliver(accountUpdate(event, { waba, entry: waba })), '200', event)
    for (const body of [
      null, 1, 'text', [], {}, { object: 'page', entry: accountUpdate('PARTNER_REMOVED', { waba }).entry },
      { entry: accountUpdate('PARTNER_REMOVED', { waba }).entry },
      { object: 'whatsapp_business_account' },
      { object: 'whatsapp_business_account', entry: {} },
      { object: 'whatsapp_business_account', entry: [] },
      ...[
        null, 1, [], {},
        { id: waba },
        { id: waba, changes: {} },
        { id: waba, changes: [] },
        { id: waba, changes: [null, 1, {}, [change]] },
        { id: waba, changes: [{ ...change, field: 'messages' }] },
        { id: waba, changes: [{ value: change?.value }] },
        { id: waba, changes: [{ field: 'account_update' }] },
        { id: waba, changes: [{ field: 'account_update', value: null }] },
        {
          id: waba,
          changes: [{ field: 'account_update', value: { event: ['PARTNER_REMOVED'], waba_info: { waba_id: waba } } }]
        }
      ].map((entry) => ({ object: 'whatsapp_business_account', entry: [entry] }))
    ]) t.equal(await deliver(JSON.stringify(body)), '200', JSON.stringify(body))
    for (const odd of [
      [waba], { id: waba }, true, 1.5, 2 ** 53, '', 'x'.repeat(256), `${waba}\0`, '\ud800'
    ]) {
      for (const event of ['PARTNER_REMOVED', 'ACCOUNT_DELETED']) {
        t.equal(await deliver(accountUpdate(event, { waba: odd, entry: waba })), '200')
        t.equal(await deliver(accountUpdate(event, { entry: odd })), '200')
      }
    }
    for (const info of ['text', 1, [waba]]) {
      const body = accountUpdate('PARTNER_REMOVED', { entry: waba })
      Object.assign(body.entry[0]?.changes[0]?.value ?? {}, { waba_info: info })
      t.equal(await deliver(body), '200')
    }
    t.equal(await deliver('['.repeat(100_000) + ']'.repeat(100_000)), '200')
  })
})

await t.test('without an account in waba_info, the id of the entry is that of the account', async (t) => {
  for (const event of ['PARTNER_REMOVED', 'PARTNER_APP_UNINSTALLED', 'ACCOUNT_DELETED']) {
    const [named = '', entry = '', other = ''] = await tenants(3)
    t.equal(await deliver(accountUpdate(event, { waba: named, entry })), '200')
    t.strictSame([await isActive(named), await isActive(entry)], [false, true], 'waba_info takes precedence')
    t.equal(await deliver(accountUpdate(event, { entry })), '200')
    t.equal(await isActive(entry), false)
    t.equal(await deliver(accountUpdate(event, { waba: null, entry: other })), '200')
    t.equal(await isActive(other), false)
  }
})

await t.test('ids as JSON numbers are read', async (t) => {
  for (const body of [
    accountUpdate('PARTNER_REMOVED', { waba: 102290129340398 }),
    accountUpdate('PARTNER_REMOVED', { entry: 102290129340398 })
  ]) {
    await sql("delete from tenant_configs where tenant_id = 'numbers'")
    await call(as('numbers'), 'POST', config, { waba_id: '102290129340398' })
    t.equal(await deliver(body), '200')
    t.equal(await isActive('numbers'), false)
  }
})

await t.test('an event more than 5 seconds older than the onboarding leaves the tenant active', async (t) => {
  const onboarded = 1_795_435_200
  const [waba = ''] = await tenants(1)
  const [never = '', early = ''] = [`${waba} without onboarding`, `${waba} onboarded earlier`]
  for (const id of [never, early]) await call(as(id), 'POST', config, { waba_id: waba, access_token: 'x' })
  const reset = async () => {
    await sql('delete from account_states')
    await sql('update tenant_configs set is_active = true where waba_id = $1', [waba])
    await sql('update tenant_configs set onboarded_at = to_timestamp($2) where tenant_id = $1', [waba, onboarded])
    await sql(
      'update tenant_configs set onboarded_at = to_timestamp($2) where tenant_id = $1',
      [early, onboarded - 3600]
    )
  }
  const left = () => log().split(
    `"tenant_id":"${waba}","waba_id":"${waba}","event":"PARTNER_REMOVED","msg":"left a tenant as it is`
  ).length - 1

  await reset()
  t.equal(await deliver(accountUpdate('PARTNER_REMOVED', { waba, time: onboarded - 6 })), '200')
  t.strictSame(
    [await isActive(waba), await isActive(never), await isActive(early)],
    [true, false, false],
    'each tenant has its own onboarding time'
  )
  t.match(await app.tokenWatch.healthOf(waba), { token_status: 'unverified', reason: null })
  t.equal(left(), 1)
  t.match(log(), /"level":30[^\n]*left a tenant as it is/)
  await reset()
  t.equal(await deliver(accountUpdate('PARTNER_REMOVED', { waba, time: String(onboarded - 6) })), '200')
  t.equal(await isActive(waba), true, 'a time in digits is read')
  t.equal(left(), 2)

  // The clocks may differ by 5 seconds; an invalid time counts as none.
  for (const time of [
    onboarded - 5, onboarded, onboarded + 3600, onboarded * 1000, undefined, null, `${onboarded - 6}s`, -1,
    1e300, 1.5, {}
  ]) {
    await reset()
    const body = accountUpdate('PARTNER_REMOVED', { waba, time })
    if (time === undefined) delete body.entry[0]?.time
    t.equal(await deliver(JSON.stringify({ ...body, nonce: uniqueNumber() })), '200')
    t.equal(await isActive(waba), false, String(time))
  }

  for (const times of [
    [onboarded - 6, onboarded + 1], [onboarded + 1, onboarded - 6], [undefined, onboarded - 6]
  ]) {
    await reset()
    const entry = times
      .flatMap((time) => [...accountUpdate('PARTNER_REMOVED', { waba, time: time ?? null }).entry, null])
    t.equal(await deliver({ object: 'whatsapp_business_account', entry, nonce: uniqueNumber() }), '200')
    t.equal(await isActive(waba), false, 'the latest time counts')
  }
  t.equal(left(), 2)
})

await t.test('an unknown account is recorded as seen, and invalid entries do not stop valid ones', async (t) => {
  const [waba = ''] = await tenants(1)
  const unknown = accountUpdate('PARTNER_REMOVED', { waba: 'not here yet' })
  t.equal(await deliver(unknown), '200')
  await call(as('late'), 'POST', config, { waba_id: 'not here yet' })
  await assertNoWrites(t, async () => { t.equal(await deliver(unknown), '200') })
  const body = accountUpdate('PARTNER_REMOVED', { waba })
  t.equal(
    await deliver({
      ...body,
      entry: [null, { id: 1, changes: [] }, { changes: [7, ...body.entry[0]?.changes ?? []] }]
    }),
    '200'
  )
  t.equal(await isActive(waba), false)
})

await t.test('a delivery with a thousand entries updates the tenants in one statement', async (t) => {
  const known = await tenants(3)
  const ids = [...known, ...Array.from({ length: 997 }, (_, i) => `unknown-${i}`)]
  await sql(
    `create table updates (n int);
    create function count_updates() returns trigger language plpgsql security definer as $$ begin
      insert into updates values (1); return null;
    end $$`
  )
  await sql(
    'create trigger count_updates after update on tenant_configs for each statement execute function count_updates()'
  )
  t.equal(
    await deliver({
      object: 'whatsapp_business_account',
      entry: ids.flatMap((waba) => accountUpdate('ACCOUNT_DELETED', { entry: waba }).entry)
    }),
    '200'
  )
  t.equal((await sql('select * from updates')).length, 1)
  await sql('drop function count_updates cascade; drop table updates')
  for (const id of known) t.equal(await isActive(id), false)
})
