import type { LookupAddress } from 'node:dns'
import type { LookupFunction } from 'node:net'
import t from '../run/tap.js'
import { createPoster } from '../../src/events/post.js'
import { isPublicAddress, publicOnly } from '../../src/events/public-address.js'
import { buildTestApp, createDatabase, until } from '../helper.js'
import { putEvent, receiver, sampleEvent, secret as secrets, waiting } from './event-receiver.js'

const privateAddresses = [
  // private, shared (CGNAT), loopback, link-local
  '10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', '100.64.0.1', '100.127.255.255', '127.0.0.1',
  '127.255.255.254', '169.254.169.254',
  // unspecified, multicast, reserved, broadcast, documentation, benchmarks
  '0.0.0.0', '0.1.2.3', '224.0.0.1', '239.255.255.255', '240.0.0.1', '255.255.255.255', '192.0.0.8', '192.0.2.1',
  '198.51.100.1', '203.0.113.1', '198.18.0.1', '198.19.255.255',
  '::', '::1', 'fe80::1', 'fe80::1%eth0', 'febf::1', 'fc00::1', 'fd12:3456::1', 'fec0::1', 'ff02::1', '2001:db8::1',
  '100::1', '4000::1',
  // IPv4 within IPv6: mapped, compatible, translated, NAT64, 6to4, Teredo
  '::ffff:127.0.0.1', '::ffff:10.0.0.1', '::ffff:a9fe:a9fe', '::127.0.0.1', '::ffff:0:127.0.0.1', '64:ff9b::127.0.0.1',
  '64:ff9b::10.1.2.3', '64:ff9b::a9fe:a9fe', '64:ff9b:1::10.0.0.1', '2002:7f00:1::', '2002:a00:1::1',
  '2001:0:7f00:1::1'
]
const publicAddresses = [
  '1.1.1.1', '8.8.8.8', '11.0.0.1', '100.63.255.255', '100.128.0.1', '126.255.255.255', '128.0.0.1', '169.253.0.1',
  '172.15.255.255', '172.32.0.1', '192.167.0.1', '223.255.255.255', '2606:4700::1111', '2a00:1450:4001::1',
  '::ffff:8.8.8.8', '64:ff9b::8.8.8.8'
]

/** A lookup that gives these addresses, the next ones at each call, and counts the calls. */
function lookupOf (...answers: string[][]) {
  const given = { calls: 0 }
  const lookup: LookupFunction = (_hostname, { all }, callback) => {
    const addresses: LookupAddress[] = (answers[given.calls++] ?? []).map((address) =>
      ({ address, family: address.includes(':') ? 6 : 4 }))
    if (all === true) callback(null, addresses)
    else callback(null, addresses[0]?.address ?? '', addresses[0]?.family)
  }
  return { given, lookup }
}

const lookedUp = async (lookup: LookupFunction, all: boolean) => await new Promise((resolve) => {
  lookup('events.example', { all }, (err, address, family) => { resolve(err ?? [address, family]) })
})

await t.test('only addresses of the public internet are public', async (t) => {
  for (const address of privateAddresses) t.notOk(isPublicAddress(address), address)
  for (const address of publicAddresses) t.ok(isPublicAddress(address), address)
})

await t.test('a lookup fails if any address is private; other results are unchanged', async (t) => {
  const { lookup } = lookupOf(['8.8.8.8', '2606:4700::1111'], ['8.8.8.8', '::1'], ['127.0.0.1'])
  const guarded = publicOnly(lookup)
  t.strictSame(await lookedUp(guarded, true), [[
    { address: '8.8.8.8', family: 4 }, { address: '2606:4700::1111', family: 6 }
  ], undefined])
  t.match(await lookedUp(guarded, true), { code: 'private_address' })
  t.match(await lookedUp(guarded, false), { code: 'private_address' })
  t.strictSame(await lookedUp(publicOnly(lookupOf(['1.1.1.1']).lookup), false), ['1.1.1.1', 4])
  const missing = Object.assign(new Error('getaddrinfo'), { code: 'ENOTFOUND' })
  t.equal(await lookedUp(publicOnly((_hostname, _options, callback) => { callback(missing, []) }), true), missing)
})

await t.test('a name whose address turns private is refused at the connection', async (t) => {
  const { url, received } = await receiver(t)
  const target = new URL(url)
  target.hostname = 'events.example'
  const { given, lookup } = lookupOf(['8.8.8.8'], ['127.0.0.1'], ['127.0.0.1'])
  // The first attempt ends before its connection to the public address begins.
  const leaving = new AbortController()
  const rebound = createPoster({
    url: target.href,
    secrets,
    allowsPrivate: false,
    lookup: (hostname, options, callback) => { leaving.abort(); lookup(hostname, options, callback) }
  })
  t.match(await rebound(sampleEvent, leaving.signal), { reason: 'ABORT_ERR' })
  t.strictSame(await rebound(sampleEvent, new AbortController().signal), { status: null, reason: 'private_address' })
  t.equal(given.calls, 2, 'each attempt looks the name up once')
  t.equal(received.length, 0)

  const allowed = createPoster({ url: target.href, secrets, allowsPrivate: true, lookup })
  t.match(await allowed(sampleEvent, new AbortController().signal), { status: 204 })
  t.equal(received[0]?.headers.host, target.host)
})

await t.test('a private address, or a name of one, is refused in every notation', async (t) => {
  const { url, received } = await receiver(t)
  const { port } = new URL(url)
  for (const host of [
    'localhost', '127.0.0.1', '127.1', '2130706433', '0x7f.0.0.1', '017700000001', '0.0.0.0', '[::1]', '[::]',
    '[::ffff:127.0.0.1]', '[::ffff:7f00:1]', '127.0.0.1.'
  ]) {
    const post = createPoster({ url: `http://${host}:${port}/`, secrets, allowsPrivate: false })
    const outcome = await post(sampleEvent, new AbortController().signal)
    t.strictSame(outcome, { status: null, reason: 'private_address' }, host)
  }
  t.equal(received.length, 0)
})

await t.test('production refuses a private address unless EVENTS_ALLOW_PRIVATE is true', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const { env, received } = await receiver(t)
  await putEvent(DATABASE_URL, 'acme', 'x')
  const production = { DATABASE_URL, ...env, NODE_ENV: 'production' }
  const refusing = await buildTestApp(t, production)
  await until(() => refusing.log().includes('private_address'))
  t.match(refusing.log(), '"status":null,"reason":"private_address","msg":"an event could not be delivered yet"')
  t.match(await waiting(DATABASE_URL), [{ reason: 'x', attempts: 1 }])
  const id = (await waiting(DATABASE_URL))[0]?.id
  await refusing.app.close()
  t.equal(received.length, 0)

  const { app, admin } = await buildTestApp(t, { ...production, EVENTS_ALLOW_PRIVATE: 'true' })
  await app.inject({ method: 'POST', url: `/api/v1/tenant/admin/events/${id}/redeliver`, headers: admin })
  await until(() => received.length === 1)
})
