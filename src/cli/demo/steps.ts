import { inspect, isDeepStrictEqual } from 'node:util'
import { secretColumns } from '../../schemas/columns.js'
import { isMasked, mask } from '../../vault/masking.js'

/** Tells what is done, waits for what comes back, shows it, and checks it: throws when it is not as expected. */
export type Step = <T extends object>(does: string, outcome: Promise<T>, expected: object) => Promise<T>

/** Numbers the steps of a story. Takes what prints; `held` says how many steps were as expected so far. */
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

/** The first thing that is not as expected, in words; null when all is. Of an object only the members named in `expected` count. */
function findDifference (name: string, actual: unknown, expected: unknown, path = name): string | null {
  if (expected instanceof RegExp && expected.test(String(actual))) return null
  if (isContainer(expected) && isContainer(actual)) {
    const members = Array.isArray(expected) ? [...Object.keys(expected), 'length'] : Object.keys(expected)
    return members.map((key) => findDifference(key, actual[key], expected[key], `${path}.${key}`)).find((fault) => fault !== null) ?? null
  }
  if (isDeepStrictEqual(actual, expected)) return null
  return `${path} should be ${expected instanceof RegExp ? String(expected) : format(name, expected)}, and is ${format(name, actual)}.`
}

function isContainer (value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !(value instanceof RegExp)
}

/** A value for the eye: its secrets are masked, and members that are null left out unless they were sent. */
function format (name: string, value: unknown): string {
  const text = JSON.stringify({ [name]: value }, (key, member) => {
    if (isSecret(key, member)) return mask(member)
    if (key === 'authorization_url') return String(member).replace(/(?<=[?&]state=)[^&]*/, mask)
    return member === null && key !== name && name !== 'sent' ? undefined : member
  })
  return inspect(JSON.parse(text)[name], { depth: null, breakLength: Infinity })
}

// The names of secrets also have short values beside them: where they come from, and what a mask leaves of them.
function isSecret (name: string, value: unknown): value is string {
  if (typeof value !== 'string' || value.length < 16 || isMasked(value)) return false
  return secretColumns.some((column) => column === name) || name === 'state' || (name === 'code' && value.startsWith('AQ'))
}
