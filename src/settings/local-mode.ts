import { randomBytes } from 'node:crypto'
import { ensureDataDir, isStoredSecret, readOrCreateSecret } from './data-dir.js'
import { isLoopbackHost } from './loopback.js'
import type { EnvSource } from './values.js'

/** The files of DATA_DIR with the generated settings. */
export const generatedFiles = { JWT_SECRET: 'jwt-secret', ENCRYPTION_KEYS: 'encryption-keys' }

interface JwtSettings { DATA_DIR: string, JWT_SECRET: string }

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

/** How local mode generates settings. A generator stores the secret in `DATA_DIR`; later calls return that one. */
export const generators = new Map([
  ['JWT_SECRET', createGenerator(generatedFiles.JWT_SECRET, () => randomBytes(48).toString('base64'))],
  ['ENCRYPTION_KEYS', createGenerator(
    generatedFiles.ENCRYPTION_KEYS,
    () => `local:${randomBytes(32).toString('base64')}`
  )]
])

/** Whether local mode generated the `JWT_SECRET` of validated settings. */
export async function hasGeneratedJwtSecret (env: EnvSource & JwtSettings): Promise<boolean> {
  return isLocalMode(env) && await isStoredSecret(env.DATA_DIR, generatedFiles.JWT_SECRET, env.JWT_SECRET)
}

function createGenerator (file: string, make: () => string): (dataDir: string) => Promise<string> {
  return async (dataDir) => await readOrCreateSecret(await ensureDataDir(dataDir), file, make)
}
