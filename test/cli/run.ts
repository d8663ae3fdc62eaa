import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import type { Test } from 'tap'
import { settingNames } from '../../src/settings/env.js'
import { baseEnv, query } from '../helper.js'
import { modulePath } from '../run/paths.js'

// Excludes the settings of this process.
const settings = { ...Object.fromEntries(settingNames.map((name) => [name, ''])), ...baseEnv, PORT: '0' }

/**
 * Starts a TypeScript file of the project as a new process, killed when the test ends. It runs in a directory outside
 * the project, without a .env, unless `cwd` names another.
 */
export function start (
  t: Test, [file = '', ...args]: string[], env: Record<string, string> = {}, { cwd = tmpdir() } = {}
) {
  const child = spawn(
    process.execPath,
    [...process.execArgv, modulePath(file), ...args],
    { cwd, env: { ...process.env, ...settings, ...env } }
  )
  t.teardown(() => { child.kill('SIGKILL') })
  const out = { stdout: '', stderr: '' }
  child.stdout.on('data', (data) => { out.stdout += String(data) })
  child.stderr.on('data', (data) => { out.stderr += String(data) })
  const ended = once(child, 'close').then(([code, signal]) => ({ code, signal, ...out }))

  /** Waits until stdout contains this text. */
  async function printed (text: string): Promise<void> {
    while (!out.stdout.includes(text)) {
      const end = await Promise.race([once(child.stdout, 'data').then(() => null), ended])
      if (end !== null && !out.stdout.includes(text)) {
        throw new Error(`ended without printing "${text}": ${JSON.stringify(end)}`)
      }
    }
  }
  return { child, ended, printed }
}

/** Runs a command to its end with a closed stdin. */
export async function run (t: Test, command: string[], env: Record<string, string> = {}, options = {}) {
  const { child, ended } = start(t, command, env, options)
  child.stdin.end()
  return await ended
}

/** Asserts that a command failed with a readable message, without output or a stack. */
export function refused (t: Test, { code, stdout, stderr }: Awaited<ReturnType<typeof run>>, message: RegExp): void {
  t.equal(code, 1)
  t.equal(stdout, '')
  t.match(stderr, message)
  t.notMatch(stderr, /^ {4}at |node:internal/m, 'no stack is printed')
}

/** The names of a database's tables, sorted. */
export async function tables (url: string): Promise<unknown[]> {
  return (await query(url, "select tablename from pg_tables where schemaname = 'public' order by 1")).map(
    ({ tablename }) => tablename
  )
}
