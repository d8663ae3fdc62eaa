import { isUtf8 } from 'node:buffer'
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'

/** One `NAME=value` of a `.env`; lines count from 1. */
export interface Assignment { name: string, value: string, line: number }

// `\s` covers the byte order mark too. A line that matches neither is an error, never skipped.
const IGNORED = /^\s*(#.*)?$/s
const ASSIGNMENT = /^\s*(?:export\s+)?(?<name>[A-Za-z_][\w.-]*)\s*=(?<value>.*)$/s
const QUOTED = /^\s*(?<quote>['"`])(?<text>(?:(?!\k<quote>).)*)\k<quote>\s*(?:(?<=\s)#.*)?$/s
const COMMENT = /(?<=\s)#.*$/s

/**
 * Reads a `.env`; one that does not exist has no assignments.
 *
 * @throws when the file cannot be read or parsed; the error names the file and the line, and shows no value
 */
export async function readDotEnv (path: string): Promise<Assignment[]> {
  const file = resolve(path)
  const bytes = await readFile(file).catch((err: NodeJS.ErrnoException) => {
    if (err.code === 'ENOENT') return Buffer.of()
    throw new Error(err.code === 'EISDIR' ? `${file} is a directory.` : `${file} cannot be read (${err.code}).`)
  })
  return parseDotEnv(bytes, file)
}

/**
 * Parses a `.env`. Each line is empty, a comment, or `[export] NAME=value`:
 *
 * - The text is UTF-8, with or without a byte order mark. Lines end with LF, CRLF or CR.
 * - A value in quotes ('…', "…" or `…`) ends at the next such quote on the same line. In "…" `\n` is a line
 *   break.
 * - A value without quotes ends at a `#` that follows a blank, or with the line. Blanks around it are trimmed.
 * - `$NAME` and all other backslashes are literal. The last of several assignments of a name counts.
 *
 * dotenv and Node accept more. A multi-line value is an error: an open quote would swallow the settings below it.
 * A `#` within a value without quotes is an error: shells keep it, dotenv and Node cut the value there.
 *
 * @param file the name of the file, for errors
 * @throws at the first line that cannot be parsed, as `readDotEnv` does
 */
export function parseDotEnv (bytes: Buffer, file: string): Assignment[] {
  // latin1 maps each byte to one character, which allows a check of each line for UTF-8.
  return bytes.toString('latin1').split(/\r\n|\r|\n/).flatMap((text, index) => {
    const line = index + 1
    const refuse = (why: string) => new Error(`${file}, line ${line}: ${why}`)
    const encoded = Buffer.from(text, 'latin1')
    if (!isUtf8(encoded)) throw refuse('the text is not UTF-8. Save the file as UTF-8.')
    const content = encoded.toString()
    if (IGNORED.test(content)) return []
    const { name, value } = ASSIGNMENT.exec(content)?.groups ?? {}
    if (name === undefined || value === undefined) throw refuse('this is neither NAME=value nor a comment.')
    return [{ name, value: parseValue(value, refuse), line }]
  })
}

function parseValue (value: string, refuse: (why: string) => Error): string {
  if (/^\s*['"`]/.test(value)) {
    const { quote, text } = QUOTED.exec(value)?.groups ?? {}
    if (text === undefined) throw refuse('the value must end with the quote it begins with, on the same line.')
    return quote === '"' ? text.replaceAll('\\n', '\n') : text
  }
  const bare = value.replace(COMMENT, '').trim()
  if (bare.includes('#')) throw refuse('put the value into quotes if # is part of it, else put a blank before #.')
  return bare
}
