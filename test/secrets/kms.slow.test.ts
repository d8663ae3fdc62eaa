import t from '../run/tap.js'
import { run } from '../cli/run.js'
import * as awsKms from '../fixtures/kms/aws-kms.js'
import { json, raw, type Answer } from '../fixtures/kms/stand-in.js'
import { setProcessEnv } from '../fixtures/kms/process-env.js'
import { serverProcess } from '../fixtures/server-process.js'
import * as transit from '../fixtures/kms/transit.js'
import { baseEnv, createDatabase } from '../helper.js'
import { entryScanner, wrappedKey } from '../vault/wrapping/rings.js'

t.setTimeout(300_000)

const kms = await awsKms.startAwsKms(t)
const bao = await transit.startTransit(t)
// This process wraps the keys.
setProcessEnv(t, kms.env)
const settings = { AWS_KMS_KEY_ID: kms.keyId, ...bao.settings }
const env = { ...kms.env, ...settings, DATABASE_URL: await createDatabase(t) }
const wrapped = {
  'aws-kms': await wrappedKey('k2', 'aws-kms', settings),
  transit: await wrappedKey('k1', 'transit', settings)
}
const ring = `${wrapped['aws-kms'].entry},${wrapped.transit.entry}`
const scanners = Object.values(wrapped).map(({ entry, key }) =>
  entryScanner(entry, key, { ...kms.secrets, ...bao.secrets }))
const leaks = (name: string, text: string) => scanners.flatMap((scan) => scan(name, text))

await t.test('a start that a KMS refuses prints no key, no ciphertext and no credential', async (t) => {
  /** A refusal that quotes the request, and answers with the key in a wrong place or with a byte too many. */
  const answersOf = (refusal: Answer, key: Buffer): Answer[] => {
    const longer = Buffer.concat([key, Buffer.from('x')]).toString('base64')
    return [
      refusal,
      raw(200, `<html>${key.toString('base64')}`),
      json(200, { Plaintext: longer, data: { plaintext: longer } })
    ]
  }
  for (const [server, name, answers] of [
    [kms, 'aws-kms', answersOf(awsKms.refusal('AccessDeniedException'), wrapped['aws-kms'].key)],
    [bao, 'transit', answersOf(transit.refusal(403), wrapped.transit.key)]
  ] as const) {
    for (const answer of answers) {
      server.answerWith(answer)
      const { code, stdout, stderr } = await run(t, ['src/server.ts'], { ...env, ENCRYPTION_KEYS: ring })
      t.equal(code, 1)
      t.match(stdout + stderr, `(${name}): `)
      t.same(leaks('the output', stdout + stderr), [])
    }
    server.answerWith()
  }
})

await t.test('a start with keys from a KMS prints no key, no ciphertext and no credential', async (t) => {
  const { JWT_SECRET, LOG_LEVEL } = baseEnv
  const server = await serverProcess(t, { ...env, JWT_SECRET, LOG_LEVEL, ENCRYPTION_KEYS: ring })
  t.equal((await fetch(`${server.origin}/health/ready`)).status, 200)
  await server.end('SIGTERM')
  const output = server.stdout() + server.stderr()
  t.same(leaks('the output', output), [])
  for (const { entry, plain } of Object.values(wrapped)) {
    for (const text of [entry, plain]) t.not(leaks('the output', output + text).length, 0, 'the scan finds it')
  }
  for (const secret of [kms.secrets.secretKey, bao.secrets.token]) {
    t.not(leaks('the output', output + secret).length, 0, 'the scan finds it')
  }
})
