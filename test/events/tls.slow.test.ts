import { createServer } from 'node:https'
import { join } from 'node:path'
import t from '../run/tap.js'
import { createPoster } from '../../src/events/post.js'
import { serverProcess } from '../fixtures/server-process.js'
import { createDatabase, JWT_SECRET, newKey, until } from '../helper.js'
import { putEvent, sampleEvent, secret, waiting } from './event-receiver.js'

// A certificate for localhost that signs itself, valid until 2126, and its key. Both are for this test alone.
const cert = `-----BEGIN CERTIFICATE-----
MIIBlTCCATugAwIBAgIUE2rWU+MgBJSr+PK0/+ojbXvqBoIwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyOTIxMjg1MloYDzIxMjYxMTA1
MjEyODUyWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQsi2iJ2KYGdl1Gm+2GZ2fft67u5X2UEcxqbJXB8KOV6jfsup10YJl2
QLdi7SkMr2pOL7zBFiXCYemVvYgaOu67o2kwZzAdBgNVHQ4EFgQUMnTsQlPoQBTk
GymN34r/ILVujTYwHwYDVR0jBBgwFoAUMnTsQlPoQBTkGymN34r/ILVujTYwDwYD
VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwID
SAAwRQIhAJHcxlUlSMy7YoPhMxA3eblHKI9d7zc0ZI+StbuzIK+SAiBmAJl/EST6
OIVqr9guusVLb4V5Pt79uaCdm25rN3G+gA==
-----END CERTIFICATE-----`
const key = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgxqv/72hYx1pQ2uMR
SJL9xkuqnp2l8nOktVBk3kQx3uyhRANCAAQsi2iJ2KYGdl1Gm+2GZ2fft67u5X2U
EcxqbJXB8KOV6jfsup10YJl2QLdi7SkMr2pOL7zBFiXCYemVvYgaOu67
-----END PRIVATE KEY-----`

const serverNames: unknown[] = []
const server = createServer({ cert, key }, (req, res) => {
  req.resume()
  if ('servername' in req.socket) serverNames.push(req.socket.servername)
  res.writeHead(204).end()
})
server.listen(0, '127.0.0.1')
t.teardown(() => { server.closeAllConnections(); server.close() })
await until(() => server.listening)
const address = server.address()
const url = `https://localhost:${typeof address === 'object' ? address?.port : address}/`

await t.test('an event is delivered over TLS with the name of the server', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  await putEvent(DATABASE_URL, 'acme', 'x')
  await serverProcess(t, {
    DATABASE_URL,
    JWT_SECRET,
    ENCRYPTION_KEYS: `k1:${newKey()}`,
    EVENTS_WEBHOOK_URL: url,
    EVENTS_WEBHOOK_SECRET: secret,
    NODE_EXTRA_CA_CERTS: join(t.testdir({ 'ca.pem': cert }), 'ca.pem')
  })
  await until(async () => (await waiting(DATABASE_URL)).length === 0)
  t.strictSame(serverNames, ['localhost'])
})

await t.test('a certificate that nobody trusts fails the attempt', async (t) => {
  const post = createPoster({ url, secrets: secret, allowsPrivate: true })
  const outcome = await post(sampleEvent, new AbortController().signal)
  t.strictSame(outcome, { status: null, reason: 'DEPTH_ZERO_SELF_SIGNED_CERT' })
})
