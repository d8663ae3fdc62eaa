import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { COMPILED, modulePath, RESULTS } from './paths.js'

const sources = join(COMPILED, 'src')

const files = readdirSync(sources, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.js')).sort()

// Files of types alone: nothing of them is left to run, and nothing loads them.
const hasCode = (name: string) => !/^export \{\};\s*(\/\/#.*)?\s*$/.test(readFileSync(join(sources, name), 'utf8'))
const typeFiles = files.filter((name) => !hasCode(name))

// Named by what was compiled: coverage of other sources never counts.
const hash = createHash('sha256')
for (const name of files) {
  hash.update(name).update(readFileSync(join(sources, name)))
}
const folder = resolve(RESULTS, `coverage-${hash.digest('hex').slice(0, 16)}`)

/**
 * Begins the coverage of a command anew.
 * @returns the arguments of Node for each process that counts
 */
export function recordCoverage (command: string): string[] {
  mkdirSync(folder, { recursive: true })
  for (const name of readdirSync(folder)) if (name.startsWith(`${command}.`)) rmSync(join(folder, name))
  const preload = pathToFileURL(modulePath('test/run/record-coverage.ts'))
  preload.search = encodeURIComponent(join(folder, `${command}.`))
  return ['--import', preload.href]
}

/** Prints what of src/ nothing recorded ran, files that were never loaded included; false when there is any. */
export async function coversAll (): Promise<boolean> {
  const options = [
    '--temp-directory', folder, '--all', '--src', sources, '--skip-full', '--100',
    '--exclude', 'nothing', ...typeFiles.flatMap((name) => ['--exclude', `**/${name}`])
  ]
  const [code] = await once(spawn('c8', ['report', ...options], { stdio: 'inherit' }), 'exit')
  return code === 0
}
