// Runs a program of dist/ with its arguments, such as: node bin/run.js cli/token.js --admin
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { findFault } from './dist.js'

const program = process.argv[2]
const path = fileURLToPath(new URL(`../dist/${program}`, import.meta.url))
const fault = findFault(program)
if (fault !== undefined) console.error(fault)
if (existsSync(path)) {
  process.argv.splice(1, 2, path)
  await import(path)
} else {
  process.exitCode = 1
}
