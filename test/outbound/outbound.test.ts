import { inspect } from 'node:util'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { graphErrorDetails } from '../../src/errors.js'
import { createHttpClient } from '../../src/meta/http-client.js'
import { createOutbound } from '../../src/outbound/outbound.js'
import { connectProxy, type Behaviour } from '../fixtures/proxies/connect-proxy.js'
import { calls, client, thrownBy } from '../meta/wire.js'

/** The way out through a proxy; closed when the test ends. */
async function outboundOf (t: Test, proxy: string | undefined, noProxy?: string) {
  const outbound = await createOutbound({ proxy, noProxy })
  t.teardown(outbound.close)
  return outbound
}

/** The code of the failure of a call, and whether anything may have been sent. */
async function failureOf (t: Test, proxy: string, noProxy?: string, baseUrl = 'https://graph.invalid') {
  const { fetch } = await outboundOf(t, proxy, noProxy)
  const send = createHttpClient({ baseUrl, version: 'v26.0', fetch })
  return await send({ method: 'POST', path: 'me', form: { a: 'b' } }, undefined, AbortSignal.timeout(8000))
}

await t.test('without a proxy the calls are those of Node', async (t) => {
  const { fetch: own, fetchWith, close } = await createOutbound({ proxy: undefined, noProxy: '*' })
  t.equal(own, fetch)
  t.equal(fetchWith(new URL('https://graph.invalid'), () => {}), undefined)
  await close()
})

const refusals: Array<[Behaviour, string]> = [
  [407, 'PROXY_407'], [502, 'PROXY_502'], [204, 'PROXY_204'], [301, 'PROXY_301'], ['close', 'PROXY_UND_ERR_SOCKET'],
  ['garbage', 'PROXY_UNREADABLE'], ['hang', 'PROXY_TIMEOUT']
]
for (const [behaviour, reason] of refusals) {
  await t.test(`nothing is sent to Meta when the proxy answers: ${behaviour}`, async (t) => {
    const proxy = await connectProxy(t)
    proxy.behave(behaviour)
    t.strictSame(await failureOf(t, `http://${proxy.host}`), { wasSent: false, reason })
    t.equal(proxy.requests.length, 1, 'the request for the tunnel is not repeated')
  })
}

await t.test('nothing is sent to Meta when there is no proxy', async (t) => {
  t.strictSame(await failureOf(t, 'http://localhost:9'), { wasSent: false, reason: 'PROXY_ECONNREFUSED' })
  t.strictSame(await failureOf(t, 'http://127.0.0.1:9'), { wasSent: false, reason: 'PROXY_ECONNREFUSED' })
  t.strictSame(await failureOf(t, 'http://proxy.invalid'), { wasSent: false, reason: 'PROXY_ENOTFOUND' })
  const { host } = await connectProxy(t)
  t.match(await failureOf(t, `https://${host}`), { wasSent: false, reason: /^PROXY_ERR_SSL_/ }, 'it speaks no TLS')
})

await t.test('a login code is not used when the proxy refuses', async (t) => {
  const proxy = await connectProxy(t, { credentials: 'user:right' })
  const { fetch } = await outboundOf(t, `http://user:canary-password@${proxy.host}`)
  const { graph, lines } = client('https://graph.invalid', { fetch })
  const err = await thrownBy(calls.access_token(graph))
  t.match(err, { code: 'META_UNAVAILABLE' })
  t.match(graphErrorDetails(err), { sent: false })
  t.match(lines, [{ outcome: 'META_UNAVAILABLE', reason: 'PROXY_407' }])
  t.notMatch(inspect([err, lines], { depth: null, showHidden: true }), /canary-password|localhost/)
})

await t.test('the proxy gets the credentials of its URL, decoded, and no other part of it does', async (t) => {
  for (const [given, sent] of [
    ['user:p%40ss%3A%2F@', 'user:p@ss:/'], ['user@', 'user:'], [':token@', ':token'], ['a%ZZ:100%25@', 'a%ZZ:100%'],
    ['', undefined]
  ] as const) {
    const proxy = await connectProxy(t)
    proxy.behave(502)
    const { fetch } = await outboundOf(t, `http://${given}${proxy.host}`)
    await t.rejects(fetch('https://graph.invalid/a?b=c'))
    const authorization = sent === undefined ? undefined : `Basic ${btoa(sent)}`
    t.strictSame(proxy.requests, [{ target: 'graph.invalid:443', authorization }], given)
  }
})

await t.test('NO_PROXY names the hosts that are called directly', async (t) => {
  const proxy = await connectProxy(t)
  proxy.behave(502)
  // No name server knows *.invalid (RFC 6761), so a direct call fails with ENOTFOUND.
  const direct = 'ENOTFOUND'
  const proxied = 'PROXY_502'
  for (const [noProxy, url, reason] of [
    [undefined, 'https://graph.invalid', proxied],
    ['', 'https://graph.invalid', proxied],
    ['*', 'https://graph.invalid', direct],
    ['graph.invalid', 'https://graph.invalid', direct],
    ['GRAPH.invalid', 'https://graph.INVALID', direct],
    ['raph.invalid', 'https://graph.invalid', proxied],
    ['invalid', 'https://graph.invalid', direct],
    ['.invalid', 'https://graph.invalid', direct],
    ['*.invalid', 'https://graph.invalid', direct],
    ['other.example, graph.invalid', 'https://graph.invalid', direct],
    ['other.example graph.invalid', 'https://graph.invalid', direct],
    ['graph.invalid:443', 'https://graph.invalid', direct],
    ['graph.invalid:8443', 'https://graph.invalid', proxied],
    ['graph.invalid:8443', 'https://graph.invalid:8443', direct],
    ['graph.invalid.example', 'https://graph.invalid', proxied]
  ] as const) {
    const failure = await failureOf(t, `http://${proxy.host}`, noProxy, url)
    t.strictSame(failure, { wasSent: false, reason }, `${noProxy} ${url}`)
  }
})

await t.test('neither this machine nor a URL without TLS is called through the proxy', async (t) => {
  const proxy = await connectProxy(t)
  const { fetch, fetchWith } = await outboundOf(t, `http://${proxy.host}`)
  for (const url of [
    'https://localhost:9', 'https://LOCALHOST:9', 'https://127.0.0.1:9', 'https://127.9.9.9:9', 'https://[::1]:9',
    'https://[::ffff:127.0.0.1]:9', 'http://127.0.0.1:9', 'http://graph.invalid'
  ]) {
    t.equal(fetchWith(new URL(url), () => {}), undefined, url)
    await t.rejects(fetch(url), { message: 'fetch failed' }, url)
  }
  t.strictSame(proxy.requests, [])
})
