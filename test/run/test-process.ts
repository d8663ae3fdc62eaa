import { fork } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { modulePath, RESULTS } from './paths.js'
import type { Results } from './worker.js'

/** Ends a process whose file neither ends nor times out, or that does not end after its last file. */
const KILL_MS = 600_000

export interface Outcome extends Results {
  file: string
  seconds: number
  stderr: string
}

/**
 * Runs test files in one process, one after the other, until there are no more or one fails. They share loaded modules
 * and compiled code, which costs a process more than a second of CPU. The TAP is kept in RESULTS, named by the first
 * file.
 * @param nextFile called when a file can start
 * @param report called when a file has ended
 */
export async function runTestFiles (
  nextFile: () => string | undefined, nodeArgs: string[], report: (outcome: Outcome) => void
): Promise<void> {
  let file = nextFile()
  if (file === undefined) return
  const path = `${RESULTS}/${file}.tap`
  mkdirSync(dirname(path), { recursive: true })
  const output = openSync(path, 'w')
  const child = fork(modulePath('test/run/worker.ts'), {
    execArgv: nodeArgs, stdio: ['ignore', output, 'pipe', 'ipc'], env: { ...process.env, TAP_TIMEOUT: '0' }
  })
  closeSync(output)

  let began = performance.now()
  let stderr = ''
  child.stderr?.on('data', (chunk) => { stderr += String(chunk) })
  const end = (file: string, results: Results) => {
    report({ file, seconds: (performance.now() - began) / 1000, stderr, ...results })
    stderr = ''
    began = performance.now()
  }
  let last: Results | undefined
  const timer = setTimeout(() => child.kill('SIGKILL'), KILL_MS)
  child.send(file)
  child.on('message', (message: object) => {
    // Tap sends messages of its own.
    if (!isResults(message)) return
    const next = message.failures.length === 0 ? nextFile() : undefined
    timer.refresh()
    if (next === undefined) {
      last = message
      // The other side disconnects: where this one does, Node.js 20 never emits 'close'.
      child.send('')
    } else {
      if (file !== undefined) end(file, message)
      file = next
      child.send(file)
    }
  })
  const [code, signal]: Array<number | string | null> = await once(child, 'close')
  clearTimeout(timer)
  const { failures, ...counts } = last ?? { passed: 0, skipped: 0, failures: [] }
  const isFailed = code !== 0 && failures.length === 0
  end(file, { ...counts, failures: isFailed ? [`The process ended with ${code ?? signal}.`] : failures })
}

function isResults (message: object): message is Results {
  return 'failures' in message
}
