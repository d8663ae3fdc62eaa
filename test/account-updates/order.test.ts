import t from '../run/tap.js'
import { connect, createDatabase, queries, until, untilWaiting } from '../helper.js'
import { config } from '../routes/client.js'
import { accountUpdate, uniqueNumber, webhookService } from './deliveries.js'

const { app, as, call, sql, databaseUrl, deliver, log, tenants, isActive } = await webhookService(t)

const TIME = 1_700_000_000
const update = (event: string, waba: string, time: unknown = TIME) =>
  ({ ...accountUpdate(event, { waba, time }), nonce: uniqueNumber() })
const stateOf = async (tenant: string) => {
  const { account_status: status } = await app.tokenWatch.healthOf(tenant) ?? {}
  const [row] = await sql(
    'select turned_off, extract(epoch from acted_at)::float8 as at, resume_at from account_states where tenant_id = $1',
    [tenant]
  )
  return [status, row?.['turned_off'], row?.['at'], row?.['resume_at'] !== null]
}

await t.test('an update older than the last one that counted changes nothing', async (t) => {
  const [waba = ''] = await tenants(1)
  await deliver(update('ACCOUNT_OFFBOARDED', waba, TIME))
  t.strictSame(await stateOf(waba), ['suspended', true, TIME, false])
  for (const event of ['PARTNER_REMOVED', 'ACCOUNT_RECONNECTED']) {
    t.equal(await deliver(update(event, waba, TIME - 1)), '200')
    t.strictSame(await stateOf(waba), ['suspended', true, TIME, false], event)
  }
  t.match(log(), `"tenant_id":"${waba}","waba_id":"${waba}","event":"PARTNER_REMOVED","msg":"left a tenant as it is`)
  await deliver(update('ACCOUNT_RECONNECTED', waba, TIME))
  t.strictSame(await stateOf(waba), ['suspended', true, TIME, true], 'one of the same second counts')
  await deliver(update('ACCOUNT_OFFBOARDED', waba, TIME + 1))
  t.strictSame(await stateOf(waba), ['suspended', true, TIME + 1, false], 'a newer suspension ends the resumption')
})

await t.test('an update without a time counts, and does not move the time of the last one', async (t) => {
  const [waba = '', other = ''] = await tenants(2)
  await deliver(update('ACCOUNT_OFFBOARDED', waba, TIME))
  await deliver(update('ACCOUNT_RECONNECTED', waba, null))
  t.strictSame(await stateOf(waba), ['suspended', true, TIME, true])
  await deliver(update('ACCOUNT_DELETED', waba, null))
  t.strictSame(await stateOf(waba), ['lost', false, TIME, false])
  await deliver(update('ACCOUNT_OFFBOARDED', other, null))
  t.strictSame(await stateOf(other), ['suspended', true, null, false])
})

await t.test('a suspension that arrives after its resumption changes nothing', async (t) => {
  const [waba = ''] = await tenants(1)
  await deliver(update('ACCOUNT_RECONNECTED', waba, TIME))
  t.equal(await deliver(update('ACCOUNT_OFFBOARDED', waba, TIME - 60)), '200')
  t.equal(await isActive(waba), true)
  t.strictSame(await stateOf(waba), ['ok', false, TIME, false])
})

await t.test('the updates of one delivery count in its order', async (t) => {
  const [waba = ''] = await tenants(1)
  const events: unknown[] = []
  t.teardown(app.events.onEvent(({ type, from, to }) => { events.push([type, from, to]) }))
  const entry = ['ACCOUNT_OFFBOARDED', 'ACCOUNT_RECONNECTED', 'PARTNER_REMOVED', 'ACCOUNT_OFFBOARDED']
    .flatMap((event, i) => update(event, waba, TIME + i).entry)
  t.equal(await deliver({ object: 'whatsapp_business_account', entry }), '200')
  t.strictSame(await stateOf(waba), ['lost', false, TIME + 3, false])
  t.same(events, [
    ['token.revoked', 'unverified', 'revoked'],
    ['account.suspended', 'ok', 'suspended'],
    ['account.lost', 'suspended', 'lost']
  ])
})

await t.test('a delivery that waits for another one sees what that one stored', async (t) => {
  const [waba = ''] = await tenants(1)
  const other = await connect(t, databaseUrl)
  await other.query('begin; select from tenant_configs for update')
  const removal = deliver(update('PARTNER_REMOVED', waba, null))
  await untilWaiting(databaseUrl, 1)
  const suspension = deliver(update('ACCOUNT_OFFBOARDED', waba, null))
  await untilWaiting(databaseUrl, 2)
  await other.query('rollback')
  t.strictSame([await removal, await suspension], ['200', '200'])
  t.strictSame(await stateOf(waba), ['lost', false, null, false])
})

await t.test('a person who turns the tenant on or off decides over an earlier update', async (t) => {
  const [waba = ''] = await tenants(1)
  await deliver(update('ACCOUNT_OFFBOARDED', waba, TIME))
  await call(as(waba), 'POST', `${config}/deactivate`)
  t.strictSame(await stateOf(waba), ['suspended', false, TIME, false])
  await deliver(update('ACCOUNT_RECONNECTED', waba, TIME + 1))
  t.strictSame([await isActive(waba), ...await stateOf(waba)], [false, 'ok', false, TIME + 1, false])

  await call(as(waba), 'POST', `${config}/activate`)
  await deliver(update('ACCOUNT_OFFBOARDED', waba, TIME + 2))
  await deliver(update('ACCOUNT_RECONNECTED', waba, TIME + 3))
  await call(as(waba), 'POST', `${config}/activate`)
  t.strictSame([await isActive(waba), ...await stateOf(waba)], [true, 'ok', false, TIME + 3, false])
  t.match(await app.tokenWatch.healthOf(waba), { account_reason: null, account_initiated_by: null })

  await deliver(update('PARTNER_REMOVED', waba, TIME + 4))
  await call(as(waba), 'POST', `${config}/activate`)
  t.strictSame([await isActive(waba), ...await stateOf(waba)], [true, 'ok', false, TIME + 4, false])
})

await t.test('an update with a number turns off no tenant whose number is unknown: its token is due', async (t) => {
  const service = await webhookService(t, { DATABASE_URL: await createDatabase(t, { watched: true }) })
  const { as, call, deliver, isActive } = service
  const sql = queries(t, service.databaseUrl)
  const ids = { waba_id: 'shared', access_token: 'x' }
  const numbers = { known: '+1 (631) 555-1001', other: '+1 631-555-1002', hidden: null, worded: 'none', moved: '+1 1' }
  for (const tenant of [...Object.keys(numbers), 'upgraded', 'off', 'bare']) {
    await call(as(tenant), 'POST', config, { ...ids, ...tenant !== 'bare' && { phone_number_id: tenant } })
  }
  for (const [tenant, display] of Object.entries(numbers)) {
    const id = tenant === 'moved' ? 'the number before' : tenant
    await sql('insert into phone_numbers (tenant_id, phone_number_id, display_phone_number) values ($1, $2, $3)',
      [tenant, id, display])
  }
  await call(as('off'), 'POST', `${config}/deactivate`)
  await sql("update token_watch set next_check_at = now() + interval '1 day' where tenant_id <> 'off'")

  const body = accountUpdate('PARTNER_REMOVED', { waba: 'shared', time: TIME })
  Object.assign(body.entry[0]?.changes[0]?.value ?? {}, { phone_number: '16315551001' })
  t.equal(await deliver(body), '200')
  for (const tenant of ['other', 'hidden', 'worded', 'moved', 'upgraded', 'bare']) {
    t.equal(await isActive(tenant), true, tenant)
  }
  t.equal(await isActive('known'), false)
  const due = await sql('select tenant_id from token_watch where next_check_at <= now() order by tenant_id')
  t.same(due.map(({ tenant_id: id }) => id), ['hidden', 'moved', 'upgraded', 'worded'])
  t.match(service.log(), /"tenant_id":"upgraded"[^\n]*names a number that may be the tenant's/)

  // The live check of a resumption looks for the number itself.
  await deliver(accountUpdate('ACCOUNT_OFFBOARDED', { waba: 'shared', time: TIME + 1 }))
  const back = accountUpdate('ACCOUNT_RECONNECTED', { waba: 'shared', time: TIME + 2 })
  Object.assign(back.entry[0]?.changes[0]?.value ?? {}, { phone_number: '16315551001' })
  t.equal(await deliver(back), '200')
  const resumed = async () => {
    const found = await sql('select tenant_id from account_states where resume_at is not null order by 1')
    return found.map(({ tenant_id: id }) => id)
  }
  await until(async () => (await resumed()).length === 4)
  t.same(await resumed(), ['hidden', 'moved', 'upgraded', 'worded'])
})

await t.test('a number is compared by its digits; one that cannot be read is not recognised', async (t) => {
  const narrowed = (waba: string, phone: unknown) => {
    const body = update('PARTNER_REMOVED', waba)
    Object.assign(body.entry[0]?.changes[0]?.value ?? {}, { phone_number: phone })
    return body
  }
  for (const phone of ['16315551001', 16315551001, '+1 631-555-1001', '1 (631) 555.1001', null]) {
    const [waba = ''] = await tenants(1)
    await call(as(waba), 'PUT', config, { phone_number_id: waba })
    await sql('insert into phone_numbers (tenant_id, phone_number_id, display_phone_number) values ($1, $1, $2)',
      [waba, '+1 631-555-1001'])
    t.equal(await deliver(narrowed(waba, phone)), '200')
    t.equal(await isActive(waba), false, String(phone))
  }
  const [waba = ''] = await tenants(1)
  for (const phone of ['', 'none', '+', {}, [], 1.5, -1, true, '1'.repeat(16), 'x16315551001', '16315551001;1']) {
    t.equal(await deliver(narrowed(waba, phone)), '200')
    t.equal(await isActive(waba), true, String(phone))
  }
})
