import t from '../../run/tap.js'
import { rollback } from '../../../src/database/migrations/migrations.js'
import { createVault } from '../../../src/vault/vault.js'
import { dataDir } from '../../fixtures/embedded.js'
import { tags } from '../../fixtures/migrations.js'
import { serverProcess } from '../../fixtures/server-process.js'
import { buildTestApp, createDatabase, query } from '../../helper.js'
import { canary, canaryKey } from '../../secrets/canaries.js'
import { refused, run } from '../run.js'

// A dozen processes: slow on a busy machine.
t.setTimeout(300_000)

const rotate = 'src/cli/keys/rotate.ts'
const status = 'src/cli/keys/status.ts'
const [one, two] = [`k1:${canaryKey()}`, `k2:${canaryKey()}`]
const secret = canary('secret')

/** A database in which a service sealed the secrets of two tenants and the audit key with k1, then started with k2. */
async function createStored () {
  const DATABASE_URL = await createDatabase(t)
  const ENCRYPTION_KEYS = `${two},${one}`
  const before = await buildTestApp(t, { DATABASE_URL, ENCRYPTION_KEYS: one })
  for (const tenant of ['acme', 'other']) {
    await before.app.tenantConfigs.create(tenant, null, { access_token: secret, verify_token: secret })
  }
  await before.app.close()
  const after = await buildTestApp(t, { DATABASE_URL, ENCRYPTION_KEYS })
  await after.app.close()
  return { DATABASE_URL, ENCRYPTION_KEYS }
}

/** The cells of the lines of keys:status. */
const cellsOf = (stdout: string) => stdout.trim().split('\n').map((line) => line.split(/ {2,}/))

await t.test('keys:rotate ends with its proof, and keys:status lists the keys before and after it', async (t) => {
  const env = await createStored()
  const head = ['key', 'in the ring', 'values', 'of these in v1', 'seals in', 'seals', 'of 2^32']
  t.same(cellsOf((await run(t, [status], env)).stdout), [
    head, ['k2', 'first', '0', '0', 'v2', '0', '0.00 %'], ['k1', 'yes', '5', '0', 'v2', '5', '0.00 %']
  ])
  t.match(await run(t, [rotate], env), {
    code: 0,
    stderr: '',
    stdout: /^Sealed 5 values with k2 in \d+ s\.\n0 values under k1\n0 values in v1\n$/
  })
  t.match(await run(t, [rotate, '--format', 'v1'], env), {
    code: 0,
    stdout: /^Sealed 5 values with k2 in \d+ s\.\n0 values under k1\n0 values in v2\n$/
  })
  await query(env.DATABASE_URL, 'update vault_keys set seals = 42949673')
  const after = await run(t, [status], { ...env, ENCRYPTION_KEYS: `k3:${canaryKey()},${two}` })
  t.equal(after.code, 0)
  t.same(cellsOf(after.stdout), [
    head, ['k3', 'first', '0', '0', '-', '-', '-'], ['k2', 'yes', '5', '5', 'v1', '42949673', '1.00 %'],
    ['k1', 'no', '0', '0', 'v2', '42949673', '1.00 %']
  ])
})

await t.test('keys:rotate names what it cannot open, and fails', async (t) => {
  const env = await createStored()
  const foreign = createVault({ keyRing: `k9:${canaryKey()}` }).seal(secret, 'acme', 'fb_app_secret')
  await query(
    env.DATABASE_URL,
    `update tenant_configs set tenant_id = E'ac\\u202eme', fb_app_secret = $1, verify_token = $2
     where tenant_id = 'acme'`,
    [foreign, secret]
  )
  await query(env.DATABASE_URL, "update service_secrets set sealed = 'v2.k9..x'")
  const { code, stdout, stderr } = await run(t, [rotate, '--wait', '0'], env)
  t.equal(code, 1)
  t.match(stdout.trim().split('\n'), [
    /^Sealed 4 values with k2 in \d+ s\.$/, '1 values under k1', '2 values under k9', '0 values in v1',
    '1 values that are not sealed'
  ])
  t.match(stderr.trim().split('\n').sort(), [
    /^4 values remain, of which 4 do not open\. /,
    'The access_token of the tenant ac…me does not open.',
    'The audit_key of the service does not open.',
    'The fb_app_secret of the tenant ac…me does not open.',
    'The verify_token of the tenant ac…me does not open.'
  ])
  t.match(await run(t, [status], env), { code: 0, stdout: /^k9 +no +2 .*\n1 values are not sealed\.\n$/m })
})

await t.test('the commands refuse what they cannot do', async (t) => {
  const env = await createStored()
  for (const options of [['--format', 'v3'], ['--wait', '-1'], ['--wait', 'x'], ['--unknown']]) {
    refused(t, await run(t, [rotate, ...options], env), /npm run keys:rotate/)
  }
  refused(t, await run(t, [status, '--unknown'], env), /npm run -s keys:status/)
  refused(t, await run(t, [rotate], { ...env, ENCRYPTION_KEYS: `k3:${canaryKey()},${two},${one}` }),
    /^No instance has started with the key k3 yet\./)
  refused(t, await run(t, [rotate], { ...env, DATABASE_URL: 'postgres://127.0.0.1:1/away' }),
    /The database cannot be reached/)
  await rollback(env.DATABASE_URL, async () => true)
  for (const command of [rotate, status]) {
    refused(t, await run(t, [command], env), new RegExp(`^The database lacks the migrations ${tags.at(-1)}\\. `))
  }
})

await t.test('the commands use the embedded database, while the service runs and while it does not', async (t) => {
  const env = { DATA_DIR: dataDir(t), ENCRYPTION_KEYS: one }
  const service = await serverProcess(t, env)
  t.match(await run(t, [rotate], env), { code: 0, stdout: /^Sealed 0 values with k1 / })
  await service.end('SIGTERM')
  t.match(await run(t, [status], env), { code: 0, stdout: /^k1 +first +1 /m })
})
