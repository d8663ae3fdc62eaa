import { isUtf8 } from 'node:buffer'
import { readFile } from 'node:fs/promises'
import leven from 'leven'
import type { Assignment } from './dot-env.js'
import { reason } from '../logger.js'

/** Where the values come from: the process environment and `.env`, or an object in their place. */
export type EnvSource = Record<string, string | number | boolean | undefined>

/** The name of the setting that names a file with the value of another one. */
export const fileSetting = (name: string) => `${name}_FILE`

/** Trims all values and leaves out what is unset or empty: `NAME=` in a `.env` means "not set". */
export function dropEmpty (source: EnvSource): EnvSource {
  const trimmed = (value: EnvSource[string]) => typeof value === 'string' ? value.trim() : value
  const entries = Object.entries(source).map(([name, value]) => [name, trimmed(value)])
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined && value !== ''))
}

/**
 * Reads the files that `NAME_FILE` settings name into the settings NAME.
 *
 * @param secretNames the settings that may come from a file
 * @returns the settings, and what is wrong by the name of the setting; a fault shows neither the path nor the content
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
      faults.set(name, `${fileSetting(name)} is not usable: ${reason(err)}`)
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
 * Names that begin with PG are not looked at: PGHOST and PGPORT are PostgreSQL's own.
 *
 * @param names all names that mean something to this service
 * @returns one warning for each, which shows no value
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
