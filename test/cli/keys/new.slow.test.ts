import { readdirSync } from 'node:fs'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { parseKeyRing, parseRingEntries } from '../../../src/settings/key-ring.js'
import { startAwsKms } from '../../fixtures/kms/aws-kms.js'
import { refusal, startTransit } from '../../fixtures/kms/transit.js'
import { newKey } from '../../helper.js'
import { canaryKey, scanner } from '../../secrets/canaries.js'
import { unwrapOnce } from '../../vault/wrapping/rings.js'
import { refused, run } from '../run.js'

// A process for each call.
t.setTimeout(300_000)

const command = 'src/cli/keys/new.ts'
/** No setting of the command's own. */
const unset = { JWT_SECRET: '', ENCRYPTION_KEYS: '', NODE_ENV: 'production' }
const rotation = /^Put it first in ENCRYPTION_KEYS, restart all instances, then run `npm run keys:rotate`\. [^\n]+\n$/

/** Runs the command, and returns the entry that it prints and the line beside it. */
async function printed (t: Test, args: string[], env: Record<string, string> = {}, options = {}) {
  const { code, stdout, stderr } = await run(t, [command, ...args], { ...unset, ...env }, options)
  t.strictSame([code, stdout.split('\n').length, stderr.split('\n').length], [0, 2, 2], stderr)
  return { entry: stdout.trim(), advice: stderr }
}

await t.test('the first key needs no setting, and leaves no file', async (t) => {
  const cwd = t.testdir({})
  const entries = new Set<string>()
  const environments: Array<Record<string, string>> = [
    { NODE_ENV: '' }, { NODE_ENV: 'wrong', DATABASE_URL: 'wrong', PORT: 'wrong', DATA_DIR: 'data' }
  ]
  for (const env of environments) {
    const { entry, advice } = await printed(t, [], env, { cwd })
    t.match(parseKeyRing(entry), [{ id: 'k1' }])
    t.match(advice, /^Set ENCRYPTION_KEYS to it, and keep a copy apart from the database\.\n$/)
    entries.add(entry)
  }
  t.equal(entries.size, 2, 'each key is new')
  t.same(readdirSync(cwd), [])
})

await t.test('the id follows those of the ring, wherever that is set', async (t) => {
  const [ring, odd] = [`k7:${canaryKey()},local:${canaryKey()},k2:${canaryKey()}`, `local:${canaryKey()}`]
  const dir = t.testdir({
    file: ring,
    local: { '.data': { 'encryption-keys': `k3:${canaryKey()},${odd}\n` } },
    env: { '.env': `ENCRYPTION_KEYS=${ring}\n` }
  })
  const cases: Array<[id: string, env: Record<string, string>, cwd: string]> = [
    ['k8', { ENCRYPTION_KEYS: ring }, dir],
    ['k8', { ENCRYPTION_KEYS_FILE: `${dir}/file` }, dir],
    ['k8', {}, `${dir}/env`],
    ['k1', { ENCRYPTION_KEYS: odd }, dir],
    ['k4', { NODE_ENV: '' }, `${dir}/local`]
  ]
  for (const [id, env, cwd] of cases) {
    const { entry, advice } = await printed(t, [], env, { cwd })
    t.match(parseKeyRing(entry), [{ id }])
    t.match(advice, rotation)
    t.same(scanner({})('the output', entry + advice), [], 'no key of the ring is printed')
  }
  const { entry } = await printed(t, ['--id', 'prod_2026-11'], { ENCRYPTION_KEYS: ring })
  t.match(parseKeyRing(entry), [{ id: 'prod_2026-11' }])
})

await t.test('an unusable command line or ring is refused, and no key is printed', async (t) => {
  const usage = /npm run -s keys:new \[-- --id k2\] \[--wrap aws-kms\|transit\]/
  for (const args of [['--wrap', 'pgp'], ['--wrap'], ['--id', 'k.1'], ['k2']]) {
    refused(t, await run(t, [command, ...args], unset), usage)
  }
  const taken = { ...unset, ENCRYPTION_KEYS: `k2:${newKey()}` }
  refused(t, await run(t, [command, '--id', 'k2'], taken), /^ENCRYPTION_KEYS has a key k2 already\. Choose an id/)
  const malformed = { ...unset, ENCRYPTION_KEYS: `k2:${canaryKey()}x` }
  const { stderr, ...rest } = await run(t, [command], malformed)
  refused(t, { stderr, ...rest }, /ENCRYPTION_KEYS is not usable/)
  t.same(scanner({})('stderr', stderr), [])
})

await t.test('a wrapped entry holds a key that the KMS unwraps', async (t) => {
  const [kms, transit] = [await startAwsKms(t), await startTransit(t)]
  const present = `k1:${canaryKey()}`
  const settings = { ...transit.settings, AWS_KMS_KEY_ID: kms.keyId }
  for (const name of ['aws-kms', 'transit'] as const) {
    const env = { ...kms.env, ...settings, ENCRYPTION_KEYS: present }
    const { entry, advice } = await printed(t, ['--wrap', name], env)
    t.match(parseRingEntries(entry), [{ id: 'k2', kms: name }])
    t.match(advice, rotation)
    t.same(scanner({ ...kms.secrets, ...transit.secrets })('the output', entry + advice), [])
    if (name === 'transit') t.match(parseKeyRing(await unwrapOnce(entry, settings)), [{ id: 'k2' }])
    // With a ring that is wrapped already, which is not unwrapped for this.
    const next = await printed(t, ['--wrap', name], { ...env, ENCRYPTION_KEYS: entry })
    t.match(parseRingEntries(next.entry), [{ id: 'k3', kms: name }])
  }
  t.same([kms.calls(), transit.calls()], [2, 3])
})

await t.test('a KMS that wraps nothing is named, with what to do', async (t) => {
  const transit = await startTransit(t)
  const wrap = async (name: string, env: Record<string, string>) =>
    await run(t, [command, '--wrap', name], { ...unset, ...env })
  refused(t, await wrap('transit', {}), /^Not set: TRANSIT_ADDR, TRANSIT_TOKEN, TRANSIT_KEY\. [^\n]+\n$/)
  refused(t, await wrap('aws-kms', {}), /^AWS_KMS_KEY_ID is not set\. [^\n]+\n$/)
  refused(t, await wrap('transit', { ...transit.settings, TRANSIT_ADDR: 'http://vault.example' }),
    /TRANSIT_ADDR is not usable: the https URL/)
  transit.answerWith(refusal(403))
  const { stderr, ...rest } = await wrap('transit', transit.settings)
  refused(t, { stderr, ...rest }, /^OpenBao or Vault refuses TRANSIT_TOKEN\. [^\n]+\n$/)
  t.same(scanner(transit.secrets)('stderr', stderr), [])
})

await t.test('without the optional package the command says how to install it', async (t) => {
  // Node finds no such package, as after `npm ci --omit=optional`.
  const hooks = `export const resolve = async (name, context, next) => {
    if (name !== '@aws-sdk/client-kms') return await next(name, context)
    throw Object.assign(new Error('Cannot find package ' + name), { code: 'ERR_MODULE_NOT_FOUND' })
  }`
  const module = (code: string) => `data:text/javascript,${encodeURIComponent(code)}`
  const preload = module(`import { register } from 'node:module'\nregister(${JSON.stringify(module(hooks))})`)
  const env = { ...unset, AWS_KMS_KEY_ID: 'alias/wtc', NODE_OPTIONS: `--import=${preload}` }
  refused(t, await run(t, [command, '--wrap', 'aws-kms'], env),
    /^The package @aws-sdk\/client-kms is not installed\. Install .*: npm ci --include=optional\.\n$/)
  const { entry } = await printed(t, [], env)
  t.match(parseKeyRing(entry), [{ id: 'k1' }], 'only AWS KMS needs it')
})
