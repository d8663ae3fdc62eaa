import type { TSchema } from '@sinclair/typebox'
import type { ErrorObject } from 'ajv'
import { databaseUrlFault } from './database-url.js'
import type { EnvSource } from './values.js'

/** The faults of these formats, which the description of a setting does not name. */
const formatFaults: Record<string, string> = {
  unquoted: 'there are quotes around the value; leave them out',
  'no-pem': 'it is a PEM, and HS256 needs random text: openssl rand -base64 48',
  'secret-text': 'it holds a line break, another control character, or bytes that are not UTF-8',
  'unguessable-database-url': 'in production a database on another machine needs a password that is hard to guess, ' +
    'in the URL or in PGPASSWORD'
}

const databaseFormats: unknown[] = ['database-url', 'direct-url']

/**
 * Adds a line for each setting without one.
 *
 * @param faults the lines by the names of the settings; they hold names and descriptions, never a value
 * @param values the settings before validation
 */
export function addFaults (
  faults: Map<string, string>, errors: ErrorObject[], settings: Record<string, TSchema>, values: EnvSource
): void {
  const describe = (error: ErrorObject) => formatFaults[String(error.params['format'])]
  // Specific faults first: a quoted value, for instance, fails the format of its setting too.
  for (const error of [...errors.filter(describe), ...errors].filter(({ keyword }) => keyword !== 'if')) {
    const missing: unknown = error.params['missingProperty']
    const name = typeof missing === 'string' ? missing : error.instancePath.slice(1)
    const isDatabaseUrl = databaseFormats.includes(error.params['format'])
    const why = isDatabaseUrl ? databaseUrlFault(String(values[name])) : describe(error) ?? settings[name]?.description
    if (!faults.has(name)) faults.set(name, `${name} ${missing === undefined ? 'is not usable' : 'is missing'}: ${why}`)
  }
}
