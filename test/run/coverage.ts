import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { COMPILED, modulePath, RESULTS } from './paths.js'

const sources = join(COMPILED, 'src')

const files = readdirSync(sources, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.js')).sort()

// Files with types only: they compile to nothing, and no file loads them.
const hasCode = (name: string) => !/^export \{\};\s*(\/\/#.*)?\s*$/.test(readFileSync(join(sources, name), 'utf8'))
const typeFiles = files.filter((name) => !hasCode(name))

// Named by a hash of the compiled sources, so that coverage of other sources never counts.
const hash = createHash('sha256')
for (const name of files) {
  hash.update(name).update(readFileSync(join(sources, name)))
}
const folder = resolve(RESULTS, `coverage-${hash.digest('hex').slice(0, 16)}`)

/**
 * Deletes the coverage of the last run of a command, and records a new one.
 * @returns the arguments of Node for each process that counts
 */
export function recordCoverage (command: string): string[] {
  mkdirSync(folder, { recursive: true })
  for (const name of readdirSync(folder)) if (name.startsWith(`${command}.`)) rmSync(join(folder, name))
  const preload = pathToFileURL(modulePath('test/run/record-coverage.ts'))
  preload.search = encodeURIComponent(join(folder, `${command}.`))
  return ['--import', preload.href]
}

/** Prints the code of src/ that no recorded process ran, unloaded files included; returns whether there is none. */
export async function coversAll (): Promise<boolean> {
  const options = [
    '--temp-directory', folder, '--all', '--src', sources, '--skip-full', '--100',
    '--exclude', 'nothing', ...typeFiles.flatMap((name) => ['--exclude', `**/${name}`])
  ]
  const [code] = await once(spawn('c8', ['report', ...options], { stdio: 'inherit' }), 'exit')
  return code === 0
}
