import { randomBytes } from 'node:crypto'
import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import { readEnv, readEnvironment, type Env, type EnvSource } from '../settings/env.js'
import { generatedFiles, generatedNames, isLocalMode } from '../settings/local-mode.js'

/**
 * Reads the settings without checking them, and prints the warnings on stderr.
 *
 * @throws Error when `.env` cannot be read
 */
export async function readCommandSettings (): Promise<EnvSource> {
  const { given, warnings } = await readEnvironment()
  for (const warning of warnings) console.error(warning)
  return given
}

/** Reads and checks the settings. Throws as `readEnv`. */
export const readCommandEnv = async (): Promise<Env> => await readEnv(await readCommandSettings())

/**
 * Returns random values for the settings that the first start in local mode generates: their files would belong to the
 * user of this command.
 */
export async function ungenerated (given: EnvSource): Promise<Record<string, string>> {
  if (!isLocalMode(given) || given['DATABASE_URL_FILE'] !== undefined) return {}
  const dir = String(given['DATA_DIR'] ?? '.data')
  const values: Record<string, string> = {}
  for (const name of generatedNames(given)) {
    if (given[name] !== undefined || given[`${name}_FILE`] !== undefined) continue
    const isMissing = await lstat(join(dir, generatedFiles[name]))
      .then(() => false, (err: NodeJS.ErrnoException) => err.code === 'ENOENT')
    if (isMissing) values[name] = name === 'ENCRYPTION_KEYS' ? `none:${randomKey()}` : randomKey()
  }
  return values
}

const randomKey = () => randomBytes(32).toString('base64')
