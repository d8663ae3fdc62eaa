import t from '../run/tap.js'
import { accountUpdate, uniqueNumber, webhookService } from './deliveries.js'

const { deliver, log, tenants, isActive } = await webhookService(t)

/** The log lines of parts that were not recognised. */
const lines = () => log().split('\n').filter((line) => line.includes('was not recognised')).map((line) => {
  const { unrecognised, count } = JSON.parse(line)
  return { unrecognised, count }
})
const delivery = (...changes: unknown[]) =>
  ({ object: 'whatsapp_business_account', entry: [{ id: '1', changes }], nonce: uniqueNumber() })
const change = (value: unknown) => ({ field: 'account_update', value })

await t.test('what is not recognised is logged by its names alone, and counted', async (t) => {
  const secret = 'a value of the body'
  t.equal(await deliver(delivery(change({ event: 'NEW_IN_2030', detail: { secret }, phone_number: secret }))), '200')
  const names = { event: 'NEW_IN_2030', members: ['event', 'detail', 'phone_number'] }
  t.same(lines(), [{ unrecognised: [names], count: 1 }])

  t.equal(await deliver(delivery(
    change({ event: secret, [secret]: 1, __proto__: 1 }),
    change({ event: 'DISABLED_UPDATE', ban_info: { waba_ban_state: secret } }),
    change({ event: 'DISABLED_UPDATE', ban_info: { waba_ban_state: ['DISABLE', 'REINSTATE'] } }),
    change({ event: 'DISABLED_UPDATE' }),
    change([secret]),
    change(secret),
    { field: 1, value: secret },
    null,
    { field: 'messages', value: secret },
    change({ event: 'PARTNER_ADDED' })
  )), '200')
  t.same(lines().slice(1), [{
    unrecognised: [
      { event: null, members: ['event'] },
      { event: 'DISABLED_UPDATE', members: ['event', 'ban_info'] },
      { event: 'DISABLED_UPDATE', members: ['event'] },
      { event: null, members: [] },
      { event: null, members: ['field', 'value'] }
    ],
    count: 9
  }])

  for (const body of [
    [secret], { object: secret, entry: [] }, { object: 'whatsapp_business_account', entry: [secret] }
  ]) {
    t.equal(await deliver(JSON.stringify(body)), '200')
  }
  t.same(lines().slice(2), [
    { unrecognised: [{ event: null, members: [] }], count: 10 },
    { unrecognised: [{ event: null, members: ['object', 'entry'] }], count: 11 },
    { unrecognised: [{ event: null, members: [] }], count: 12 }
  ])
  t.notMatch(log(), secret)
})

await t.test('the log line of a delivery is bounded', async (t) => {
  const members = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`member_${i}`, i]))
  const events = Array.from({ length: 1000 }, (_, i) => `EVENT_${'A'.repeat(i % 50)}`)
  t.equal(await deliver(delivery(...events.map((event) => change({ event, ...members })))), '200')
  const line = lines().at(-1)
  t.equal(line?.count, 1012)
  t.equal(line?.unrecognised.length, 20)
  for (const { members } of line?.unrecognised ?? []) t.equal(members.length, 20)
})

await t.test('a part that is not recognised does not hide an update', async (t) => {
  const [waba = ''] = await tenants(1)
  const [removal] = accountUpdate('PARTNER_REMOVED', { waba }).entry
  const body = delivery(change({ event: 'NEW_IN_2030' }), null, ...removal?.changes ?? [])
  t.equal(await deliver({ ...body, entry: [7, { id: waba }, ...body.entry] }), '200')
  t.equal(await isActive(waba), false)
  t.match(lines().at(-1)?.unrecognised, [{ members: [] }, { members: ['id'] }, { event: 'NEW_IN_2030' }])
})

await t.test('a disconnection whose words cannot be read counts without them', async (t) => {
  for (const disconnection of [
    null, 1, 'text', [], {}, { reason: 'a text', initiated_by: 7 }, { reason: 'A'.repeat(65) }
  ]) {
    const [waba = ''] = await tenants(1)
    const body = accountUpdate('ACCOUNT_OFFBOARDED', { waba })
    Object.assign(body.entry[0]?.changes[0]?.value ?? {}, { disconnection_info: disconnection })
    t.equal(await deliver(body), '200')
    t.equal(await isActive(waba), false, JSON.stringify(disconnection))
  }
})
