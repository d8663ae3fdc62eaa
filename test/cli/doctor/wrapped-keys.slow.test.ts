import t from '../../run/tap.js'
import { startAwsKms } from '../../fixtures/kms/aws-kms.js'
import { setProcessEnv } from '../../fixtures/kms/process-env.js'
import { refusal, startTransit } from '../../fixtures/kms/transit.js'
import { silence } from '../../fixtures/kms/stand-in.js'
import { canary, canaryKey } from '../../secrets/canaries.js'
import { entryScanner, wrappedKey } from '../../vault/wrapping/rings.js'
import { startPatient, statuses } from './patient.js'

// Each check is a process.
t.setTimeout(300_000)

await t.test('the command says which keys are wrapped, and whether each can be unwrapped', async (t) => {
  const { check } = await startPatient(t)
  const [kms, transit] = [await startAwsKms(t), await startTransit(t)]
  setProcessEnv(t, kms.env)
  const settings = { AWS_KMS_KEY_ID: kms.keyId, ...transit.settings }
  const k3 = await wrappedKey('k3', 'aws-kms', settings)
  const k2 = await wrappedKey('k2', 'transit', settings)
  const ring = { ...settings, ENCRYPTION_KEYS: `${k3.entry},${k2.entry},k1:${canaryKey()}` }
  const leaks = [k3, k2].map(({ entry, key }) => entryScanner(entry, key, { ...kms.secrets, ...transit.secrets }))
  const examine = async (changes: Record<string, string> = {}) => {
    const checked = await check({ ...ring, ...changes })
    for (const scan of leaks) t.same(scan('the output', JSON.stringify(checked)), [])
    return checked
  }
  const closed = statuses({ wrapped_keys: 'failed', keys: 'skipped' })

  t.match(await check(), { code: 0, statuses: statuses(), texts: { wrapped_keys: 'No key is wrapped. ' } })
  const before = [kms.calls(), transit.calls()]
  t.match(await examine(), {
    code: 0,
    statuses: statuses(),
    texts: { wrapped_keys: 'The wrapped keys open: k3 (aws-kms), k2 (transit). ' }
  })
  t.same([kms.calls(), transit.calls()], before.map((count) => count + 1), 'each is called once')
  t.match(await examine({ TRANSIT_TOKEN: canary('token') }), {
    code: 1,
    statuses: closed,
    texts: {
      wrapped_keys: /^Some keys of ENCRYPTION_KEYS cannot be unwrapped: k2 \(transit\): .+TRANSIT_TOKEN.+ again\.$/,
      keys: /because of wrapped_keys/
    }
  })
  t.match(await examine({ TRANSIT_TOKEN: '', AWS_KMS_KEY_ID: '' }), {
    code: 1,
    statuses: closed,
    texts: { wrapped_keys: /k3 \(aws-kms\): AWS_KMS_KEY_ID is not set.* k2 \(transit\): Not set: TRANSIT_TOKEN\./ }
  })
  transit.answerWith(refusal(503))
  t.match(await examine(), { code: 1, statuses: closed, texts: { wrapped_keys: /k2 \(transit\): .* is sealed/ } })
  transit.answerWith(silence)
  t.match(await examine(), { code: 1, statuses: closed, texts: { wrapped_keys: /k2 .*no answer in time/ } })
  transit.answerWith()
  const away = { DATABASE_URL: 'postgres://u:p@127.0.0.1:1/x' }
  t.match(await examine(away), { code: 1, statuses: statuses({ database: 'failed', keys: 'skipped' }) })
  t.match(await examine({ ...away, TRANSIT_KEY: 'gone' }), {
    code: 1,
    statuses: statuses({ database: 'failed', wrapped_keys: 'failed', keys: 'skipped' }),
    texts: { keys: /because of database/ }
  })
})
