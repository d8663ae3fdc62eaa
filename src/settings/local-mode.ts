import { randomBytes } from 'node:crypto'
import { ensureDataDir, isStoredSecret, readOrCreateSecret } from './data-dir.js'
import { isLoopbackHost } from './loopback.js'
import type { EnvSource } from './values.js'

/** The files of DATA_DIR with the generated settings. */
export const generatedFiles = { JWT_SECRET: 'jwt-secret', ENCRYPTION_KEYS: 'encryption-keys' }

type GeneratedName = keyof typeof generatedFiles

interface JwtSettings { DATA_DIR: string, JWT_SECRET?: string, JWT_JWKS_URL?: string }

/**
 * Whether missing secrets may be generated and tokens printed. Local mode needs all three: not production, the embedded
 * database, a loopback host.
 *
 * @param settings before or after validation; an invalid one makes it false
 */
export function isLocalMode (settings: EnvSource): boolean {
  const { NODE_ENV = 'development', DATABASE_URL = 'embedded', HOST = '127.0.0.1' } = settings
  if (NODE_ENV !== 'development' && NODE_ENV !== 'test') return false
  return DATABASE_URL === 'embedded' && isLoopbackHost(String(HOST))
}

/** The settings that local mode generates if they are missing. An identity provider signs the tokens itself. */
export function generatedNames (settings: EnvSource): GeneratedName[] {
  return settings['JWT_JWKS_URL'] === undefined ? ['JWT_SECRET', 'ENCRYPTION_KEYS'] : ['ENCRYPTION_KEYS']
}

/** Generates a setting and stores it in `dataDir`; later calls return that one. */
export async function generate (name: GeneratedName, dataDir: string): Promise<string> {
  return await readOrCreateSecret(await ensureDataDir(dataDir), generatedFiles[name], () => makeSecret[name]())
}

const makeSecret: Record<GeneratedName, () => string> = {
  JWT_SECRET: () => randomBytes(48).toString('base64'),
  ENCRYPTION_KEYS: () => `local:${randomBytes(32).toString('base64')}`
}

/** Whether local mode generated the `JWT_SECRET` of validated settings. */
export async function hasGeneratedJwtSecret (env: EnvSource & JwtSettings): Promise<boolean> {
  const { DATA_DIR, JWT_SECRET: secret } = env
  if (secret === undefined || !isLocalMode(env) || !generatedNames(env).includes('JWT_SECRET')) return false
  return await isStoredSecret(DATA_DIR, generatedFiles.JWT_SECRET, secret)
}
