import type { Test } from 'tap'
import type { EnvSource } from '../../src/app.js'
import { readEnv } from '../../src/settings/env.js'

/** The message with which these settings are refused; asserts that it contains none of their values. */
export async function refusal (t: Test, settings: EnvSource): Promise<string> {
  const message = await readEnv(settings).then(() => 'nothing was refused', (err: Error) => err.message)
  const values = Object.values(settings).map(String).filter((value) => value.length > 5 && value !== 'production')
  t.same(values.filter((value) => message.includes(value)), [], 'no value is printed')
  return message
}

/** The names of the settings that the error refuses. */
export async function refusedSettings (t: Test, settings: EnvSource): Promise<string[]> {
  const [heading, ...lines] = (await refusal(t, settings)).split('\n')
  t.equal(heading, 'Some settings cannot be used:')
  return lines.map((line) => {
    const [, name = line, what, description] = /^ {2}([A-Z_]+) is (not usable|missing): (.+)$/.exec(line) ?? []
    t.ok(description !== undefined && description !== 'undefined', line)
    return what === 'missing' ? `${name} missing` : name
  })
}
