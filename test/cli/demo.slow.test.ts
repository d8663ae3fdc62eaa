import { randomUUID } from 'node:crypto'
import { mkdir, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { refused, run, start } from './run.js'

// Six starts of PostgreSQL and of the stand-in, which compiles itself: slow on a busy machine.
t.setTimeout(300_000)

const failing = 'test/cli/failing-command.ts'

/** A new temporary directory, and the entries that a demo left in it. */
async function temporary (t: Test) {
  const TMPDIR = join(tmpdir(), `demo-test-${randomUUID()}`)
  await mkdir(TMPDIR)
  t.teardown(async () => await rm(TMPDIR, { recursive: true }))
  return {
    env: { TMPDIR },
    left: async () => (await readdir(TMPDIR)).filter((name) => name.startsWith('whatsapp-tenant-config'))
  }
}

await t.test('two demos run concurrently: one completes, one is interrupted, and neither leaves files', async (t) => {
  const whole = await temporary(t)
  const cut = await temporary(t)
  const demo = run(t, ['src/cli/demo.ts'], whole.env)
  const { child, ended, printed } = start(t, ['src/cli/demo.ts'], cut.env)
  await printed('1. Nobody')
  t.equal((await cut.left()).length, 1)
  child.kill('SIGINT')
  t.match(await ended, { code: 130, stderr: '' })

  const { code, stdout, stderr } = await demo
  t.same({ code, stderr }, { code: 0, stderr: '' })
  const steps = stdout.match(/^\d+\. .*$/gm) ?? []
  t.ok(steps.length >= 45)
  t.match(stdout, new RegExp(`\nAll ${steps.length} steps held\\.\n$`))
  t.notMatch(stdout, /EAA[A-Za-z]|AQ\w{30}|eyJ/, 'no token or code is printed')
  t.same([...await whole.left(), ...await cut.left()], [], 'both demos remove their files')
})

await t.test('a step with an unexpected outcome ends the demo with both values', async (t) => {
  const { env, left } = await temporary(t)
  const { code, stdout, stderr } = await run(t, [failing, 'step'], env)
  t.equal(code, 1)
  t.equal(stderr, "Step 2 did not hold: outcome.sent.verify_token should be '****9876', and is '****1234'.\n")
  t.notMatch(stdout, /canary|held/)
  t.same(await left(), [])
})

await t.test('a stand-in that does not start is named in the message', async (t) => {
  const { code, stderr } = await run(t, [failing, 'standIn'])
  t.equal(code, 1)
  t.match(stderr, /The Graph stand-in did not start; .*`npm ci`/)
})

await t.test('the demo ends when its output is closed, and leaves no files', async (t) => {
  const { env, left } = await temporary(t)
  const { child, ended, printed } = start(t, ['src/cli/demo.ts'], env)
  await printed('Starting PostgreSQL')
  child.stdout.destroy()
  t.match(await ended, { code: 1, stderr: '' })
  t.same(await left(), [])
})

await t.test('an error shows its innermost cause only', async (t) => {
  const failed = await run(t, [failing, 'query'])
  refused(t, failed, /^connect ECONNREFUSED ::1:5432\n$/)
})
