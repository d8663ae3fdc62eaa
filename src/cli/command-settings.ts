import { readEnvironment, type EnvSource } from '../settings/env.js'

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
