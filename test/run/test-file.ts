import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { Parser, type FinalResults, type Result } from 'tap-parser'
import { modulePath, RESULTS } from './paths.js'

/** How long all of a file may take. A test that may take more says so itself, with `t.setTimeout`. */
const TIMEOUT_S = 120

/** Ends a file that says it is done and is not. */
const KILL_MS = 600_000

export interface Outcome {
  file: string
  ok: boolean
  seconds: number
  passed: number
  skipped: number
  /** The assertions that failed, and what else was wrong with the output. */
  failures: string[]
  stderr: string
}

/** Runs a test file in a process of its own; its TAP is kept in RESULTS. */
export async function runTestFile (file: string, nodeArgs: string[]): Promise<Outcome> {
  const began = performance.now()
  const child = spawn(process.execPath, [...nodeArgs, modulePath(file)], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TAP_TIMEOUT: String(TIMEOUT_S) }
  })
  const timer = setTimeout(() => child.kill('SIGKILL'), KILL_MS)
  const output = `${RESULTS}/${file}.tap`
  mkdirSync(dirname(output), { recursive: true })
  child.stdout.pipe(createWriteStream(output))
  const parser = new Parser()
  const assertions: Result[] = []
  parser.on('result', (assertion: Result) => { assertions.push(assertion) })
  child.stdout.pipe(parser)
  let stderr = ''
  child.stderr.on('data', (chunk) => { stderr += String(chunk) })
  const [[results], [code, signal]]: [FinalResults[], Array<number | string | null>] = await Promise.all([once(parser, 'complete'), once(child, 'close')])
  clearTimeout(timer)

  const failures = assertions.filter(({ ok, skip, todo }) => !ok && !skip && !todo).map(describe)
  for (const failure of results?.failures ?? []) if (failure.tapError) failures.push(String(failure.tapError))
  if (code !== 0 && failures.length === 0) failures.push(`The process ended with ${code ?? signal}.`)
  if (assertions.length === 0) failures.push('It asserts nothing.')
  return {
    file,
    ok: failures.length === 0 && results?.ok === true,
    seconds: (performance.now() - began) / 1000,
    passed: assertions.filter(({ ok, skip }) => ok && !skip).length,
    skipped: assertions.filter(({ skip }) => skip).length,
    failures,
    stderr
  }
}

/** The name of a failed assertion, and what tap tells of it. */
function describe ({ fullname, name, diag }: Result): string {
  const details = Object.entries<unknown>(diag ?? {}).map(([key, value]) => {
    const text = typeof value === 'string' ? value : JSON.stringify(value)
    return text.includes('\n') ? `${key}:\n${text.trimEnd().replaceAll(/^/gm, '  ')}` : `${key}: ${text}`
  })
  return [`${fullname} > ${name}`, ...details].join('\n')
}
