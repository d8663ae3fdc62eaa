import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer as createHttpServer } from 'node:http'
import { createServer } from 'node:https'
import { connect, type AddressInfo, type Server } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { createServer as createTlsServer } from 'node:tls'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { identityProvider, keySet, signingKey } from '../auth/provider.js'
import { connectProxy } from '../fixtures/proxies/connect-proxy.js'
import { serverProcess, signed } from '../fixtures/server-process.js'
import { receiver } from '../events/event-receiver.js'
import { createDatabase, JWT_SECRET, newKey, until } from '../helper.js'
import { app, standIn } from '../meta/wire.js'
import { modulePath } from '../run/paths.js'
import { cert, key } from './certificate.js'

// Several tests start processes.
t.setTimeout(180_000)

const CREDENTIALS = 'user:canary p@ssword'
const userinfo = CREDENTIALS.split(':').map(encodeURIComponent).join(':')

/** Listens until the test ends; returns the port. */
async function listen (t: Test, server: Server): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  const address: AddressInfo | string | null = server.address()
  return typeof address === 'object' ? Number(address?.port) : NaN
}

/** The port of a TLS server in front of a plain one. */
async function tlsFor (t: Test, url: string): Promise<number> {
  const server = createTlsServer({ cert, key }, (near) => {
    const far = connect(Number(new URL(url).port), '127.0.0.1')
    for (const socket of [near, far]) socket.on('error', () => { near.destroy(); far.destroy() })
    near.pipe(far).pipe(near)
  })
  return await listen(t, server)
}

/** A process that trusts the certificate and posts to https://graph.example through a proxy. */
function caller (t: Test, proxy: string, noProxy = '') {
  const NODE_EXTRA_CA_CERTS = join(t.testdir({ 'ca.pem': cert }), 'ca.pem')
  const child = spawn(process.execPath, [...process.execArgv, modulePath('test/outbound/caller.ts'), proxy, noProxy], {
    env: { ...process.env, NODE_EXTRA_CA_CERTS }, stdio: ['pipe', 'pipe', 'inherit']
  })
  const ended = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  return {
    async post (path: string): Promise<unknown> {
      child.stdin.write(`${path}\n`)
      return JSON.parse(String((await lines.next()).value))
    },
    async end (): Promise<unknown> {
      child.stdin.end()
      return (await ended)[0]
    }
  }
}

/** A Graph API whose answer to `/half` never ends. */
async function graphServer (t: Test) {
  const bodies: string[] = []
  const server = createServer({ cert, key }, async (req, res) => {
    bodies.push(Buffer.concat(await req.toArray()).toString())
    res.writeHead(200)
    if (req.url === '/v26.0/half') res.write('{"half":')
    else res.end('{"whole":true}')
  })
  t.teardown(() => { server.closeAllConnections() })
  return { bodies, port: await listen(t, server) }
}

const whole = { status: 200, body: { whole: true } }

await t.test('a tunnel carries calls one after the other, also beyond the timeout of its opening', async (t) => {
  const { port, bodies } = await graphServer(t)
  const proxy = await connectProxy(t, { ports: { 'graph.example': port } })
  const { post, end } = caller(t, `http://${proxy.host}`)
  t.strictSame([await post('me'), await post('me')], [whole, whole])
  const slow = post('half')
  // Longer than a tunnel may take to open.
  await delay(6000)
  t.equal(proxy.requests.length, 1, 'all calls use one tunnel')
  proxy.cut()
  t.match(await slow, { wasSent: true, reason: 'UND_ERR_SOCKET' }, 'a lost proxy may have carried the call')
  t.equal(bodies.length, 3, 'the call is not repeated')
  t.strictSame(bodies, Array(3).fill('a=%C3%A9'))
  t.strictSame(await post('me'), whole)
  t.equal(await end(), 0)
})

await t.test('a proxy may speak TLS', async (t) => {
  const { port } = await graphServer(t)
  const ports = { 'graph.example': port }
  const proxy = await connectProxy(t, { ports, tls: { cert, key }, credentials: CREDENTIALS })
  const { post } = caller(t, `https://${userinfo}@${proxy.host}`)
  t.strictSame(await post('me'), whole)
})

await t.test('a host that does not prove its name gets nothing', async (t) => {
  const plain = createHttpServer((_req, res) => { res.end('{}') })
  const other = await connectProxy(t, { ports: { 'graph.example': await listen(t, plain) } })
  t.match(await caller(t, `http://${other.host}`).post('me'), { wasSent: true, reason: /^ERR_SSL_/ }, 'no TLS')

  const { port, bodies } = await graphServer(t)
  const proxy = await connectProxy(t, { ports: { 'graph.example': port } })
  const untrusting = spawn(
    process.execPath,
    [...process.execArgv, modulePath('test/outbound/caller.ts'), `http://${proxy.host}`],
    { stdio: ['pipe', 'pipe', 'inherit'] }
  )
  untrusting.stdin.end('me\n')
  const [line] = await once(createInterface({ input: untrusting.stdout }), 'line')
  t.match(JSON.parse(line), { wasSent: true, reason: 'DEPTH_ZERO_SELF_SIGNED_CERT' })
  t.strictSame(bodies, [])
})

await t.test('the service calls Meta and delivers events through the proxy', async (t) => {
  const { meta, waba } = await standIn(t)
  const events = await receiver(t, (res) => res.writeHead(200).end('taken'))
  const ports = { 'graph.example': await tlsFor(t, meta.url), 'events.example': await tlsFor(t, events.url) }
  const proxy = await connectProxy(t, { ports, credentials: CREDENTIALS })
  proxy.behave(502)
  const service = await serverProcess(t, {
    DATABASE_URL: await createDatabase(t),
    JWT_SECRET,
    ENCRYPTION_KEYS: `k1:${newKey()}`,
    LOG_LEVEL: 'trace',
    FB_APP_ID: app.id,
    FB_APP_SECRET: app.secret,
    GRAPH_API_BASE_URL: 'https://graph.example',
    EVENTS_WEBHOOK_URL: 'https://events.example/hook',
    EVENTS_WEBHOOK_SECRET: events.env.EVENTS_WEBHOOK_SECRET,
    HTTPS_PROXY: `http://${userinfo}@${proxy.host}`,
    NODE_EXTRA_CA_CERTS: join(t.testdir({ 'ca.pem': cert }), 'ca.pem')
  })
  const body = JSON.stringify({
    code: meta.state.issueCode({ app_id: app.id }), waba_id: waba.id, phone_number_id: '1'
  })
  const authorization = `Bearer ${signed({ tenant_id: 'acme' }, JWT_SECRET)}`
  const headers = { authorization, 'content-type': 'application/json' }
  const onboard = async () =>
    await fetch(`${service.origin}/api/v1/tenant/onboard/whatsapp-client`, { method: 'POST', headers, body })
  t.match(await (await onboard()).json(), { code: 'META_UNAVAILABLE' })
  t.equal(meta.requests.length, 0)

  proxy.behave('tunnel')
  t.equal((await onboard()).status, 201, 'the code is still unused')
  await until(() => events.received.length > 0)
  t.match(events.received[0], { event: { tenant_id: 'acme' } })
  const targets = proxy.requests.map(({ target }) => target)
  t.strictSame(new Set(targets), new Set(['graph.example:443', 'events.example:443']))
  t.match(service.stdout(), '"reason":"PROXY_502"')
  for (const hidden of ['canary', encodeURIComponent('p@ss'), btoa(CREDENTIALS), proxy.host]) {
    t.notMatch(service.stdout() + service.stderr(), hidden)
  }
  t.equal(await service.end('SIGTERM'), 0)
})

await t.test('the keys of the identity provider come through the proxy', async (t) => {
  const rsa = await signingKey('RS256')
  const provider = await identityProvider(t, keySet(rsa))
  const proxy = await connectProxy(t, { ports: { 'graph.example': await tlsFor(t, provider.url) } })
  const service = await serverProcess(t, {
    DATABASE_URL: await createDatabase(t),
    JWT_JWKS_URL: 'https://graph.example/jwks',
    ENCRYPTION_KEYS: `k1:${newKey()}`,
    HTTPS_PROXY: `http://${proxy.host}`,
    NODE_EXTRA_CA_CERTS: join(t.testdir({ 'ca.pem': cert }), 'ca.pem')
  })
  const authorization = `Bearer ${await rsa.sign({ tenant_id: 'acme' })}`
  const reply = await fetch(`${service.origin}/api/v1/tenant/config`, { headers: { authorization } })
  t.match(await reply.json(), { code: 'CONFIG_NOT_FOUND' })
  t.strictSame(proxy.requests.map(({ target }) => target), ['graph.example:443'])
})
