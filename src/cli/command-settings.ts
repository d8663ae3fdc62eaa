import { readEnvironment, type EnvSource } from '../settings/env.js'

/** Reads what is set, not yet checked, and prints the warnings on stderr. Throws when `.env` cannot be read. */
export async function readCommandSettings (): Promise<EnvSource> {
  const { given, warnings } = await readEnvironment()
  for (const warning of warnings) console.error(warning)
  return given
}
