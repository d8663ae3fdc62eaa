import type { Test } from 'tap'
import { connect } from '../../../src/database/connection.js'

/**
 * Asserts why a connection is refused: at once, although 20 s of waiting are allowed. `values` are what the error
 * must not show.
 */
export async function assertRefused (t: Test, url: string, reason: RegExp, values: string[]): Promise<void> {
  const lines: string[] = []
  const began = performance.now()
  const connecting = connect(url, { timeoutMs: 20_000, report: (line) => { lines.push(line) }, setting: 'MY_URL' })
  const message = await connecting.then(() => 'connected', (err: Error) => err.message)
  t.match(message, reason)
  t.ok(performance.now() - began < 15_000, 'at once')
  t.same(lines, [], 'without waiting')
  t.same(values.filter((value) => message.includes(value)), [], 'no value is shown')
}
