import { describeForTerminal } from '../../logger.js'
import { readEnv, readEnvironment, type Env } from '../../settings/env.js'
import { ungenerated } from '../command-settings.js'
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
