import { randomBytes } from 'node:crypto'
import { createOutbound } from '../../outbound/outbound.js'
import { readEnv, type Env } from '../../settings/env.js'
import { formatEntry, isKeyId, kmsNames, parseRingEntries } from '../../settings/key-ring.js'
import { wrapKey } from '../../vault/wrapping/wrapping.js'
import { readCommandSettings, ungenerated } from '../command-settings.js'
import { readOptions, runCli } from '../command.js'

const USAGE = `Prints a new entry for ENCRYPTION_KEYS, by default with the next free id. With --wrap a KMS encrypts it.
  npm run -s keys:new [-- --id k2] [--wrap ${kmsNames.join('|')}]`

const relevantNames = [
  'ENCRYPTION_KEYS', 'AWS_KMS_KEY_ID', 'TRANSIT_ADDR', 'TRANSIT_TOKEN', 'TRANSIT_MOUNT', 'TRANSIT_KEY', 'HTTPS_PROXY',
  'NO_PROXY', 'DATA_DIR'
] satisfies Array<keyof Env>

await runCli(async () => {
  const { id: givenId, wrap } = readOptions({ id: { type: 'string' }, wrap: { type: 'string' } }, USAGE)
  const kms = kmsNames.find((name) => name === wrap)
  if (kms === undefined && wrap !== undefined) throw new Error(USAGE)
  const { env, ids } = await readKeySettings()
  const id = givenId ?? nextId(ids)
  if (!isKeyId(id)) throw new Error(USAGE)
  if (ids.includes(id)) throw new Error(`ENCRYPTION_KEYS has a key ${id} already. Choose an id that was never used.`)

  const key = { id, key: randomBytes(32) }
  const { fetch, close } = await createOutbound({ proxy: env.HTTPS_PROXY, noProxy: env.NO_PROXY })
  console.log(kms === undefined ? formatEntry(key) : await wrapKey(key, kms, env, fetch).finally(close))
  console.error(ids.length === 0
    ? 'Set ENCRYPTION_KEYS to it, and keep a copy apart from the database.'
    : 'Put it first in ENCRYPTION_KEYS, restart all instances, then run `npm run keys:rotate`. ' +
      'If instances restart one by one, put it last, restart all, and only then first.')
})

/**
 * Reads the settings that count for a key, and the ids of the present ring. All others may be missing or wrong: the
 * first key is made before them.
 */
async function readKeySettings (): Promise<{ env: Env, ids: string[] }> {
  const names: string[] = relevantNames.flatMap((name) => [name, `${name}_FILE`])
  const given = Object.entries(await readCommandSettings()).filter(([name]) => names.includes(name))
  const settings = { ...Object.fromEntries(given), JWT_SECRET: randomBytes(32).toString('base64') }
  const generated = await ungenerated(settings)
  const env = await readEnv({ ...settings, ...generated })
  const ring = 'ENCRYPTION_KEYS' in generated ? [] : parseRingEntries(env.ENCRYPTION_KEYS)
  return { env, ids: ring.map(({ id }) => id) }
}

/** Returns `k` with a number above those of the ring: a lower one may have been used before. */
function nextId (ids: string[]): string {
  const numbers = ids.map((id) => Number(/^k(\d{1,9})$/.exec(id)?.[1] ?? 0))
  return `k${Math.max(0, ...numbers) + 1}`
}
