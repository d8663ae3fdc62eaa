import { isUtf8 } from 'node:buffer'
import { readFile } from 'node:fs/promises'
import leven from 'leven'
import type { Assignment } from './dot-env.js'
import { describeForTerminal } from '../logger.js'

/** The settings before validation: of the process environment and `.env`, or of an object in their place. */
export type EnvSource = Record<string, string | number | boolean | undefined>

/** The setting that holds the path of a file with the value of the setting `name`. */
export const fileSetting = (name: string) => `${name}_FILE`

/** Trims all values and drops unset and empty ones: `NAME=` in a `.env` means "not set". */
export function dropEmpty (source: EnvSource): EnvSource {
  const trimmed = (value: EnvSource[string]) => typeof value === 'string' ? value.trim() : value
  const entries = Object.entries(source).map(([name, value]) => [name, trimmed(value)])
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined && value !== ''))
}

/**
 * Reads the files that `NAME_FILE` settings name into the settings NAME.
 *
 * @param secretNames the settings that may come from a file
 * @returns the settings, and a fault by the name of its setting, which shows neither the path nor the content
 */
export async function readSecretFiles (settings: EnvSource, secretNames: string[]) {
  const values = { ...settings }
  const faults = new Map<string, string>()
  for (const name of secretNames) {
    const path = settings[fileSetting(name)]
    if (path === undefined) continue
    try {
      if (settings[name] !== undefined) throw new Error(`${name} is set too; set one of the two`)
      values[name] = await readSecret(String(path))
    } catch (err) {
      faults.set(name, `${fileSetting(name)} is not usable: ${describeForTerminal(err)}`)
    }
  }
  return { values, faults }
}

async function readSecret (path: string): Promise<string> {
  const bytes = await readFile(path).catch((err: NodeJS.ErrnoException) => {
    throw new Error(`the file cannot be read (${err.code})`)
  })
  if (!isUtf8(bytes)) throw new Error('the file is not UTF-8')
  const text = bytes.toString().trim()
  if (text === '') throw new Error('the file is empty')
  return text
}

/**
 * Finds names in a `.env` that are no settings but within two letters of one, in upper or lower case.
 * Names with the prefix PG are ignored: PGHOST and PGPORT are PostgreSQL's own.
 *
 * @param names all names that have an effect
 * @returns one warning for each misspelled name, which shows no value
 */
export function findMisspelledNames (assignments: Assignment[], names: string[]): string[] {
  const unknown = assignments.filter(({ name }) => !names.includes(name) && !name.startsWith('PG'))
  return unknown.flatMap(({ name, line }) => {
    const distance = (known: string) => leven(name.toUpperCase(), known)
    const [likely] = names.filter((known) => distance(known) <= 2).sort((a, b) => distance(a) - distance(b))
    if (likely === undefined) return []
    return [`.env, line ${line}: ${name} is not a setting and has no effect. Is it meant to be ${likely}?`]
  })
}
