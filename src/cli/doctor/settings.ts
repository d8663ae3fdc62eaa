import { randomBytes } from 'node:crypto'
import { lstat } from 'node:fs/promises'
import { join } from 'node:path'
import { describeForTerminal } from '../../logger.js'
import { readEnv, readEnvironment, type Env, type EnvSource } from '../../settings/env.js'
import { generatedFiles, generatedNames, isLocalMode } from '../../settings/local-mode.js'
import { failed, ok, warning, type Finding } from './checks.js'

const FIX = 'Correct them in the environment or in .env; README.md, "Settings", describes each.'

/** Reads all settings as the service does, but generates none. `env` is null if they cannot be used. */
export async function checkSettings (): Promise<{ settings: Finding, env: Env | null }> {
  try {
    const { given, warnings } = await readEnvironment()
    const generated = await ungenerated(given)
    const env = await readEnv({ ...given, ...generated })
    const later = Object.keys(generated).map((name) => ` The first start generates ${name}.`).join('')
    const detail = `All settings can be used.${later}`
    return { settings: warnings.length === 0 ? ok(detail) : warning(warnings.join(' '), FIX), env }
  } catch (err) {
    const [heading = '', ...faults] = describeForTerminal(err).split('\n  ')
    return { settings: failed(faults.length === 0 ? heading : `${faults.join('; ')}.`, FIX), env: null }
  }
}

/**
 * Returns random values for the settings that the first start in local mode generates: their files would belong to the
 * user of this command.
 */
async function ungenerated (given: EnvSource): Promise<Record<string, string>> {
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
