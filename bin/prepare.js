// npm runs this after `npm ci` and before `npm pack`. It builds, unless the compiler was left out (--omit=dev, or
// NODE_ENV=production): such an installation may bring a dist/ of its own. A package needs one that is not stale.
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { findFault, hasSources } from './dist.js'

const compiler = findCompiler()
if (hasSources && compiler !== undefined) {
  process.exitCode = spawnSync(process.execPath, [compiler], { stdio: 'inherit' }).status ?? 1
} else {
  const fault = findFault('server.js')
  if (fault !== undefined) console.error(fault)
  if (fault !== undefined && ['pack', 'publish'].includes(process.env.npm_command)) process.exitCode = 1
}

function findCompiler () {
  try {
    return createRequire(import.meta.url).resolve('typescript/bin/tsc')
  } catch {
    return undefined
  }
}
