import { inspect, isDeepStrictEqual } from 'node:util'
import { secretColumns } from '../../schemas/columns.js'
import { isMasked, mask } from '../../vault/masking.js'

/** Prints a description, waits for the outcome, prints and checks it. Throws when it is not as expected. */
export type Step = <T extends object>(does: string, outcome: Promise<T>, expected: object) => Promise<T>

/** Creates the numbered steps of a story. `passed` returns the count of the steps that were as expected. */
export function createSteps (print: (text: string) => void): { step: Step, passed: () => number } {
  let passedCount = 0
  const step: Step = async (does, outcome, expected) => {
    const number = passedCount + 1
    print(`\n${number}. ${does}`)
    const actual = await outcome
    for (const [name, value] of Object.entries(actual)) print(`   ${name}: ${format(name, value)}`)
    const fault = findDifference('outcome', actual, expected)
    if (fault !== null) throw new Error(`Step ${number} did not hold: ${fault}`)
    passedCount = number
    return actual
  }
  return { step, passed: () => passedCount }
}

/** Describes the first difference, or returns null. Members of an object that `expected` lacks do not count. */
function findDifference (name: string, actual: unknown, expected: unknown, path = name): string | null {
  if (expected instanceof RegExp && expected.test(String(actual))) return null
  if (isContainer(expected) && isContainer(actual)) {
    const members = Array.isArray(expected) ? [...Object.keys(expected), 'length'] : Object.keys(expected)
    const differences = members.map((key) => findDifference(key, actual[key], expected[key], `${path}.${key}`))
    return differences.find((fault) => fault !== null) ?? null
  }
  if (isDeepStrictEqual(actual, expected)) return null
  const wanted = expected instanceof RegExp ? String(expected) : format(name, expected)
  return `${path} should be ${wanted}, and is ${format(name, actual)}.`
}

function isContainer (value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !(value instanceof RegExp)
}

/** Formats a value for the terminal. Masks its secrets, and omits members that are null unless they were sent. */
function format (name: string, value: unknown): string {
  const text = JSON.stringify({ [name]: value }, (key, member) => {
    if (isSecret(key, member)) return mask(member)
    if (key === 'authorization_url') return String(member).replace(/(?<=[?&]state=)[^&]*/, mask)
    return member === null && key !== name && name !== 'sent' ? undefined : member
  })
  return inspect(JSON.parse(text)[name], { depth: null, breakLength: Infinity })
}

// Short values under the name of a secret are none: the sources of a snapshot, and masked secrets.
function isSecret (name: string, value: unknown): value is string {
  if (typeof value !== 'string' || value.length < 16 || isMasked(value)) return false
  const isLoginCode = name === 'code' && value.startsWith('AQ')
  return secretColumns.some((column) => column === name) || name === 'state' || isLoginCode
}
