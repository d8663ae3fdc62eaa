import t from '../../run/tap.js'
import { signed } from '../../fixtures/server-process.js'
import { startAwsKms } from '../../fixtures/kms/aws-kms.js'
import { setProcessEnv } from '../../fixtures/kms/process-env.js'
import { silence } from '../../fixtures/kms/stand-in.js'
import { startTransit } from '../../fixtures/kms/transit.js'
import { createDatabase, JWT_SECRET } from '../../helper.js'
import { start, workDir } from '../../started-server.js'
import { entryScanner, wrappedKey } from './rings.js'

// Each start is a process.
t.setTimeout(300_000)

const [kms, transit] = [await startAwsKms(t), await startTransit(t)]
setProcessEnv(t, kms.env)
const settings = { AWS_KMS_KEY_ID: kms.keyId, ...transit.settings }
const [k2, k1] = [await wrappedKey('k2', 'aws-kms', settings), await wrappedKey('k1', 'transit', settings)]
const scans = [k2, k1].map(({ entry, key }) => entryScanner(entry, key, { ...kms.secrets, ...transit.secrets }))
const leaks = (channel: string, text: string) => scans.flatMap((scan) => scan(channel, text))
const production = {
  NODE_ENV: 'production',
  HOST: '127.0.0.1',
  LOG_LEVEL: 'trace',
  DATABASE_URL: await createDatabase(t),
  JWT_SECRET,
  ENCRYPTION_KEYS: `${k2.entry},${k1.entry}`,
  ...settings
}

await t.test('a start that cannot unwrap the keys fails with a line for each, and no secret', async (t) => {
  const heading = '^The service did not start: Some keys of ENCRYPTION_KEYS cannot be unwrapped:'
  const wrong = { ...production, TRANSIT_TOKEN: `${transit.secrets.token}x`, AWS_KMS_KEY_ID: 'x' }
  const refused = start(t, workDir(t), wrong)
  t.same(await refused.ended, [1, null])
  t.match(refused.err(), RegExp(`${heading}\\n {2}k2 \\(aws-kms\\): .*\\n {2}k1 \\(transit\\): .*TRANSIT_TOKEN.*\\n$`))
  t.same([...leaks('stdout', refused.out()), ...leaks('stderr', refused.err())], [])

  transit.answerWith(silence)
  const silent = start(t, workDir(t), production)
  const began = performance.now()
  t.same(await silent.ended, [1, null])
  const ms = performance.now() - began
  t.ok(ms < 30_000, `${ms} ms`)
  t.match(silent.err(), RegExp(`${heading}\\n {2}k1 \\(transit\\): .* cannot be reached \\(no answer in time\\).*\\n$`))
  t.match(silent.out(), /"level":40,.*"msg":"waiting for the key k1 \(transit\): /)
  t.same([...leaks('stdout', silent.out()), ...leaks('stderr', silent.err())], [])
  transit.answerWith()
})

await t.test('a service that has started needs no KMS, and writes no key', async (t) => {
  const server = start(t, workDir(t), production)
  const origin = await server.origin()
  kms.goAway()
  transit.goAway()
  const authorization = `Bearer ${signed({ tenant_id: 'acme' }, JWT_SECRET)}`
  const created = await fetch(`${origin}/api/v1/tenant/config`, {
    method: 'POST', headers: { authorization, 'content-type': 'application/json' }, body: '{"access_token":"a-token"}'
  })
  t.equal(created.status, 201)
  const read = await fetch(`${origin}/api/v1/tenant/config/full`, { headers: { authorization } })
  t.match(await read.json(), { access_token: 'a-token' })
  server.child.kill('SIGTERM')
  t.same(await server.ended, [0, null])
  t.equal(server.err(), '')
  t.same(leaks('stdout', server.out()), [])
})
