import { randomBytes } from 'node:crypto'
import t from '../../run/tap.js'
import { createConfigLoader } from '../../../src/app.js'
import { createVault } from '../../../src/vault/vault.js'
import { unwrapKeyRing, wrapKey } from '../../../src/vault/wrapping/wrapping.js'
import { startAwsKms } from '../../fixtures/kms/aws-kms.js'
import { silence } from '../../fixtures/kms/stand-in.js'
import { refusal, startTransit } from '../../fixtures/kms/transit.js'
import { setProcessEnv } from '../../fixtures/kms/process-env.js'
import { buildTestApp, createDatabase, newKey, query } from '../../helper.js'
import { entryScanner, messageOf, unwrapOnce, wrappedKey } from './rings.js'

await t.test('a service starts with wrapped and plain keys, and calls no KMS once it has started', async (t) => {
  const [kms, transit] = [await startAwsKms(t), await startTransit(t)]
  setProcessEnv(t, kms.env)
  const settings = { AWS_KMS_KEY_ID: kms.keyId, ...transit.settings }
  const [k3, k2] = [await wrappedKey('k3', 'aws-kms', settings), await wrappedKey('k2', 'transit', settings)]
  const k1 = `k1:${newKey()}`
  const url = await createDatabase(t)
  for (const [tenant, ring] of [
    ['three', [k3.plain]], ['two', [k2.plain, k3.plain]], ['one', [k1, k3.plain, k2.plain]]
  ] as const) {
    const { app } = await buildTestApp(t, { DATABASE_URL: url, ENCRYPTION_KEYS: ring.join() })
    await app.tenantConfigs.create(tenant, null, { access_token: `token of ${tenant}` })
    await app.close()
  }

  const calls = () => [kms.calls(), transit.calls()]
  const before = calls()
  const ENCRYPTION_KEYS = [k3.entry, k2.entry, k1].join()
  const { app, as, log } = await buildTestApp(t, { DATABASE_URL: url, ENCRYPTION_KEYS, ...settings })
  t.same(calls(), before.map((count) => count + 1), 'each is called once')
  t.same(app.vault.keyIds, ['k3', 'k2', 'k1'])
  const read = async (tenant: string) =>
    (await app.inject({ url: '/api/v1/tenant/config/full', headers: as(tenant) })).json().access_token
  for (const tenant of ['three', 'two', 'one']) t.equal(await read(tenant), `token of ${tenant}`)
  await app.tenantConfigs.create('four', null, { access_token: 'token of four' })
  t.equal(await read('four'), 'token of four')
  const [row] = await query(url, "select access_token as sealed from tenant_configs where tenant_id = 'four'")
  t.match(row?.['sealed'], /\.k3\./)
  t.equal((await app.configLoader.forTenant('two')).getAccessToken(), 'token of two')
  t.same(calls(), before.map((count) => count + 1), 'none is called again')
  for (const { entry, key } of [k3, k2]) {
    const leaks = entryScanner(entry, key, { ...kms.secrets, ...transit.secrets })
    t.same(leaks('the log', log()), [])
    app.log.info(entry)
    t.not(leaks('the log', log()).length, 0, 'the scan would find it')
  }
})

await t.test('the standalone loader unwraps the ring', async (t) => {
  const { settings } = await startTransit(t)
  const { entry, plain } = await wrappedKey('k1', 'transit', settings)
  const databaseUrl = await createDatabase(t)
  const { app } = await buildTestApp(t, { DATABASE_URL: databaseUrl, ENCRYPTION_KEYS: plain })
  await app.tenantConfigs.create('acme', null, { access_token: 'a token' })
  const env = { LOG_LEVEL: 'silent', ENCRYPTION_KEYS: entry, ...settings }
  const loader = await createConfigLoader({ databaseUrl, env })
  t.teardown(loader.close)
  t.equal((await loader.forTenant('acme')).getAccessToken(), 'a token')
  const wrong = createConfigLoader({ databaseUrl, env: { ...env, TRANSIT_TOKEN: 'hvs.wrong' } })
  t.match(await messageOf(t, wrong), /k1 \(transit\): .* refuses TRANSIT_TOKEN/)
})

await t.test('every key that cannot be unwrapped is named in one error', async (t) => {
  const { settings, answerWith } = await startTransit(t)
  const [k2, k1] = [await wrappedKey('k2', 'transit', settings), await wrappedKey('k1', 'transit', settings)]
  answerWith(refusal(404))
  const message = await messageOf(t, unwrapOnce(`${k2.entry},k0:${newKey()},${k1.entry}`, settings))
  const expected = /^Some keys of ENCRYPTION_KEYS cannot be unwrapped:\n {2}k2 \(transit\): .*\n {2}k1 \(transit\): .*$/
  t.match(message, expected)
})

await t.test('a ring that is still wrapped, or has a key twice once it is unwrapped, makes no vault', async (t) => {
  const { settings } = await startTransit(t)
  const key = randomBytes(32)
  const entry = await wrapKey({ id: 'k2', key }, 'transit', settings, fetch)
  t.throws(() => createVault({ keyRing: entry }), /^The key k2 of ENCRYPTION_KEYS is wrapped, and was not unwrapped\.$/)
  const twice = await unwrapOnce(`k1:${key.toString('base64')},${entry}`, settings)
  t.throws(() => createVault({ keyRing: twice }), new Error('ENCRYPTION_KEYS has one key under two ids. ' +
    'Remove the one that sealed nothing.'))
})

await t.test('a start waits for a fault that passes, and says so once', async (t) => {
  const { settings, answerWith, calls } = await startTransit(t)
  const { entry, plain } = await wrappedKey('k1', 'transit', settings)
  const lines: string[] = []
  const unwrap = async () => await unwrapKeyRing({ ...settings, ENCRYPTION_KEYS: entry }, {
    fetch, report: (line) => { lines.push(line) }
  })
  answerWith(refusal(503))
  setTimeout(() => { answerWith() }, 500)
  t.equal(await unwrap(), plain)
  t.same(lines, ['waiting for the key k1 (transit): OpenBao or Vault is sealed or in maintenance. Unseal it.'])
  t.ok(calls() > 3, `${calls()} calls`)

  const before = calls()
  answerWith(refusal(403))
  t.match(await messageOf(t, unwrap()), /refuses TRANSIT_TOKEN/)
  t.equal(calls() - before, 1, 'another fault is not waited for')
  t.equal(lines.length, 1)

  answerWith(refusal(503))
  t.match(await messageOf(t, unwrapOnce(entry, settings)), /sealed/)
  t.equal(calls() - before, 2, 'a check does not wait')
})

await t.test('a start gives up within 9 seconds when nothing answers', async (t) => {
  const { settings, answerWith, calls } = await startTransit(t)
  const [k1, k2] = [await wrappedKey('k1', 'transit', settings), await wrappedKey('k2', 'transit', settings)]
  const before = calls()
  answerWith(silence)
  const began = performance.now()
  const ENCRYPTION_KEYS = `${k1.entry},${k2.entry}`
  const message = await messageOf(t, unwrapKeyRing({ ...settings, ENCRYPTION_KEYS }, { fetch, report: () => {} }))
  const ms = performance.now() - began
  t.match(message, /k1 \(transit\): .*no answer in time.*\n {2}k2 \(transit\): .*no answer in time/)
  t.ok(ms > 6000 && ms < 9000, `${ms} ms`)
  t.equal(calls() - before, 4, 'two attempts for each key')
})
