import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs'
import { join, normalize, relative } from 'node:path'
import { parseArgs } from 'node:util'
import { CLUSTER_DIR, URL_FILE } from '../cluster/where.js'
import { startPgBouncer, type PgBouncer } from '../fixtures/postgres/pgbouncer.js'
import { coversAll, recordCoverage } from './coverage.js'
import { COMPILED, modulePath } from './paths.js'
import { runTestFiles, type Outcome } from './test-process.js'

/** The end of the name of a file that starts processes. */
const SLOW = '.slow.test.ts'
/** The end of the name of a file that keeps both cores busy for minutes: a test beside it would time out. */
const CI = '.ci.test.ts'

// `npm test` runs the test files that start no process of their own, `npm run test:slow` the others (*.slow.test.ts),
// which together with the last `npm test` must cover all of src/. `npm test -- [--jobs <number>] <file or folder> …`
// runs those; only so *.ci.test.ts run. With `--pooler` the services that they build reach the database through a
// PgBouncer in transaction mode.
const { values: { jobs = '3', slow = false, pooler: usesPooler = false }, positionals } = parseArgs({
  allowPositionals: true,
  options: { jobs: { type: 'string' }, slow: { type: 'boolean' }, pooler: { type: 'boolean' } }
})
const isWhole = positionals.length === 0
const files = isWhole
  ? testFiles('test').filter((file) => !file.endsWith(CI) && file.endsWith(SLOW) === slow)
  : positionals.flatMap(testFiles)
const isOk = ({ failures }: Outcome) => failures.length === 0
// Files with a time limit of their own start first; otherwise one of them would still run alone at the end.
const isLong = (file: string) => readFileSync(file, 'utf8').includes('t.setTimeout(')
const waiting = [...files.filter(isLong), ...files.filter((file) => !isLong(file))]
// A larger young generation (MiB) saves a tenth of the CPU time: it is collected less often.
const nodeArgs = [
  '--enable-source-maps',
  '--max-semi-space-size=64',
  ...isWhole ? recordCoverage(slow ? 'slow' : 'quick') : []
]

// Files that compiled code opens by a relative path; the demo starts the stand-in of Meta from its TypeScript.
for (const path of ['package.json', 'docs', 'drizzle', 'test/graph/main.ts', 'test/graph/seed.json']) {
  const link = join(COMPILED, path)
  rmSync(link, { force: true })
  symlinkSync(relative(join(link, '..'), path), link)
}

const began = performance.now()
const outcomes: Outcome[] = []
// After Ctrl-C, which reaches the tests as well, PostgreSQL is still stopped.
process.on('SIGINT', () => { waiting.length = 0 })
let isCovered = true
let pooler: PgBouncer | undefined
try {
  await node('test/cluster/start.ts')
  if (usesPooler) {
    const url = readFileSync(join(CLUSTER_DIR, URL_FILE), 'utf8')
    pooler = await startPgBouncer(url)
    process.env['TEST_POOLER_URL'] = pooler.urlOf(url)
  }
  await Promise.all(Array.from({ length: Number(jobs) }, runWaiting))
} finally {
  await pooler?.stop()
  await node('test/cluster/stop.ts')
}
if (isWhole && slow) isCovered = await coversAll()
report()

/** Runs one process after the other until no file is left. A file that starts processes gets one of its own. */
async function runWaiting (): Promise<void> {
  while (waiting.length > 0) {
    let isFull = false
    const nextFile = () => {
      const file = isFull ? undefined : waiting.shift()
      isFull = startsProcesses(file) || startsProcesses(waiting[0])
      return file
    }
    await runTestFiles(nextFile, nodeArgs, (outcome) => {
      outcomes.push(outcome)
      process.stderr.write(outcome.stderr)
      const seconds = outcome.seconds.toFixed(1).padStart(6)
      const status = isOk(outcome) ? 'ok    ' : 'FAILED'
      console.log(`${status} ${seconds} s  ${outcome.file} (${outcomes.length} of ${files.length})`)
    })
  }
}

function startsProcesses (file = ''): boolean {
  return file.endsWith(SLOW) || file.endsWith(CI)
}

/** Prints each failure and the command to run its file alone; sets the exit code. */
function report (): void {
  const failed = outcomes.filter((outcome) => !isOk(outcome))
  for (const { file, failures } of failed) {
    const details = failures.join('\n\n').replaceAll(/^(?=.)/gm, '  ')
    console.log(`\nFAILED ${file}\n\n${details}\n\n  Run it alone: npm test -- ${file}`)
  }
  const sum = (name: 'passed' | 'skipped') => outcomes.reduce((sum, outcome) => sum + outcome[name], 0)
  const failures = outcomes.flatMap(({ failures }) => failures).length
  const assertions = `${sum('passed')} assertions passed, ${failures} failed, ${sum('skipped')} skipped`
  const seconds = ((performance.now() - began) / 1000).toFixed(0)
  const filesRun = `${outcomes.length} of ${files.length} test files run`
  console.log(`\n${filesRun}, ${failed.length} failed, in ${seconds} s (${assertions})`)
  if (!isCovered) console.log('`npm test` and these tests do not cover all of src/: see the table above.')
  if (failed.length > 0 || outcomes.length < files.length || !isCovered) process.exitCode = 1
}

/** The test files that a path names: itself, or all in that folder. */
function testFiles (path: string): string[] {
  if (!existsSync(path)) throw new Error(`There is no ${path}.`)
  if (!statSync(path).isDirectory()) return [normalize(path)]
  const names = readdirSync(path, { recursive: true, encoding: 'utf8' })
  return names.filter((name) => name.endsWith('.test.ts')).map((name) => join(path, name)).sort()
}

/** Runs one of our files to its end. */
async function node (file: string): Promise<void> {
  const [code] = await once(spawn(process.execPath, [...nodeArgs, modulePath(file)], { stdio: 'inherit' }), 'exit')
  if (code !== 0) throw new Error(`${file} ended with ${String(code)}.`)
}
