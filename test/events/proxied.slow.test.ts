import type { LookupFunction } from 'node:net'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { createPoster } from '../../src/events/post.js'
import { createOutbound } from '../../src/outbound/outbound.js'
import { connectProxy } from '../fixtures/proxies/connect-proxy.js'
import { sampleEvent, secret as secrets } from './event-receiver.js'

interface Options { host?: string, allowsPrivate?: boolean, noProxy?: string, lookup?: LookupFunction }

/** The outcome of a delivery in front of a proxy that opens no tunnel, and the tunnels that it was asked for. */
async function deliver (t: Test, { host = 'events.example', allowsPrivate = false, noProxy, lookup }: Options = {}) {
  const proxy = await connectProxy(t)
  proxy.behave(502)
  const outbound = await createOutbound({ proxy: `http://${proxy.host}`, noProxy })
  t.teardown(outbound.close)
  const url = `https://${host}/hook`
  const post = createPoster({ url, secrets, allowsPrivate, outbound, ...lookup === undefined ? {} : { lookup } })
  const outcome = await post(sampleEvent, new AbortController().signal)
  return { ...outcome, targets: proxy.requests.map(({ target }) => target) }
}

/** A lookup that always has this result. */
const finds = (address: string): LookupFunction => (_hostname, { all }, callback) => {
  if (all === true) callback(null, [{ address, family: 4 }])
  else callback(null, address, 4)
}
const fails = (error: Error): LookupFunction => (_hostname, _options, callback) => { callback(error, []) }

await t.test('the addresses of a name are checked before the proxy gets the name', async (t) => {
  const proxied = { status: null, reason: 'PROXY_502', targets: ['events.example:443'] }
  t.strictSame(await deliver(t, { lookup: finds('8.8.8.8') }), proxied)
  const unsent = { status: null, targets: [] }
  t.strictSame(await deliver(t, { lookup: finds('10.0.0.1') }), { ...unsent, reason: 'private_address' })
  const missing = Object.assign(new Error('getaddrinfo'), { code: 'ENOTFOUND' })
  t.strictSame(await deliver(t, { lookup: fails(missing) }), { ...unsent, reason: 'ENOTFOUND' })
  t.strictSame(await deliver(t, { lookup: fails(new Error('odd')) }), { ...unsent, reason: undefined })
  t.strictSame(await deliver(t, { host: '10.0.0.1' }), { ...unsent, reason: 'private_address' })
  t.strictSame(
    await deliver(t, { host: '[2606:4700::1111]' }),
    { ...proxied, targets: ['[2606:4700::1111]:443'] },
    'an address needs no lookup'
  )
})

await t.test('with EVENTS_ALLOW_PRIVATE the proxy alone finds the addresses', async (t) => {
  const lookup = fails(new Error('no lookup is needed'))
  for (const host of ['events.example', '10.0.0.1', '[fd00::1]']) {
    const expected = { status: null, reason: 'PROXY_502', targets: [`${host}:443`] }
    t.strictSame(await deliver(t, { host, allowsPrivate: true, lookup }), expected)
  }
})

await t.test('a host of NO_PROXY is checked at the connection', async (t) => {
  const answers = ['8.8.8.8', '10.0.0.1']
  const lookup: LookupFunction = (hostname, options, callback) => {
    finds(answers.shift() ?? '')(hostname, options, callback)
  }
  const outcome = await deliver(t, { noProxy: 'example', lookup })
  t.strictSame(outcome, { status: null, reason: 'private_address', targets: [] })
})

await t.test('an attempt ends when the time is over or the service closes', async (t) => {
  t.strictSame(await deliver(t, { lookup: () => {} }), { status: null, reason: 'ETIMEDOUT', targets: [] })
  const proxy = await connectProxy(t)
  proxy.behave('hang')
  const outbound = await createOutbound({ proxy: `http://${proxy.host}`, noProxy: undefined })
  t.teardown(outbound.close)
  const post = createPoster({ url: 'https://events.example/', secrets, allowsPrivate: true, outbound })
  const closing = new AbortController()
  const attempt = post(sampleEvent, closing.signal)
  closing.abort()
  t.strictSame(await attempt, { status: null, reason: 'ABORT_ERR' })
})
