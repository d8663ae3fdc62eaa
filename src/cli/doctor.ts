import { readOptions, runCli } from './command.js'
import { examine } from './doctor/examine.js'
import type { Check } from './doctor/checks.js'

const USAGE = `Checks the settings, the database, the keys, and the app at Meta; changes nothing.
  npm run -s doctor [-- --json]`

await runCli(async () => {
  const { json = false } = readOptions({ json: { type: 'boolean' } }, USAGE)
  const checks = await examine()
  const isOk = checks.every(({ status }) => status !== 'failed')
  console.log(json ? JSON.stringify({ ok: isOk, checks }, null, 2) : [...checks.map(describe), sum(checks)].join('\n'))
  if (!isOk) process.exitCode = 1
})

function describe ({ name, status, detail, fix }: Check): string {
  return `${status.padEnd(7)}  ${name.padEnd(20)}  ${detail}${fix === null ? '' : ` To mend it: ${fix}`}`
}

function sum (checks: Check[]): string {
  const count = (wanted: Check['status']) => checks.filter(({ status }) => status === wanted).length
  const [warnings, failures] = [count('warning'), count('failed')]
  return `${count('ok')} ok, ${warnings} with a warning, ${failures} failed, ${count('skipped')} skipped.`
}
