import type { TSchema } from '@sinclair/typebox'
import type { ErrorObject } from 'ajv'

/** The faults of these formats, which the description of a setting does not name. */
const formatFaults: Record<string, string> = {
  unquoted: 'there are quotes around the value; leave them out',
  'no-pem': 'it is a PEM, and HS256 needs random text: openssl rand -base64 48',
  'secret-text': 'it holds a line break, another control character, or bytes that are not UTF-8'
}

/**
 * Adds a line for each setting without one.
 *
 * @param faults the lines by the names of the settings; they hold names and descriptions, never a value
 */
export function addFaults (
  faults: Map<string, string>, errors: ErrorObject[], settings: Record<string, TSchema>
): void {
  const describeFormat = (error: ErrorObject) => formatFaults[String(error.params['format'])]
  // Specific faults first: a quoted value, for instance, fails the format of its setting too.
  for (const error of [...errors.filter(describeFormat), ...errors].filter(({ keyword }) => keyword !== 'if')) {
    const missing: unknown = error.params['missingProperty']
    const name = typeof missing === 'string' ? missing : error.instancePath.slice(1)
    const why = describeFormat(error) ?? settings[name]?.description
    if (!faults.has(name)) faults.set(name, `${name} ${missing === undefined ? 'is not usable' : 'is missing'}: ${why}`)
  }
}
