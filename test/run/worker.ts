import tap from 'tap'
import type { Result } from 'tap-parser'
import { modulePath } from './paths.js'
import { setRootTest } from './tap.js'

/** The time limit of a file; a test that needs longer calls `t.setTimeout`. */
const TIMEOUT_MS = 120_000

/** The results of the assertions of a file. */
export interface Results {
  passed: number
  skipped: number
  /** The name of each assertion that failed, and its diagnostics. */
  failures: string[]
}

// Runs each test file that its parent names, and sends its results. The parent names one after the other, then ''. The
// outer test is there because tap would end its own root test between two files.
await tap.test('files', async (t) => {
  process.on('message', async (file: string) => {
    if (file === '') {
      process.disconnect()
      return
    }
    const results: Result[] = []
    const final = await t.test(file, { timeout: TIMEOUT_MS }, async (t) => {
      t.parser.on('result', (result: Result) => results.push(result))
      setRootTest(t)
      await import(modulePath(file))
    })
    const failures = results.filter(({ ok, skip, todo }) => !ok && !skip && !todo).map(describe)
    if (results.length === 0) failures.push('It asserts nothing.')
    if (final?.ok !== true && failures.length === 0) failures.push('No assertion failed. Was it too slow?')
    const passed = results.filter(({ ok, skip }) => ok && !skip).length
    process.send?.({ passed, skipped: results.filter(({ skip }) => skip).length, failures } satisfies Results)
  })
  // Tap unreferences the channel; without this the process would end while it waits for the next file.
  process.channel?.ref()
  await new Promise((resolve) => process.once('disconnect', resolve))
})

function describe ({ fullname, name, diag }: Result): string {
  const details = Object.entries<unknown>(diag ?? {}).map(([key, value]) => {
    const text = typeof value === 'string' ? value : JSON.stringify(value)
    return text.includes('\n') ? `${key}:\n${text.trimEnd().replaceAll(/^/gm, '  ')}` : `${key}: ${text}`
  })
  return [`${fullname} > ${name}`, ...details].join('\n')
}
