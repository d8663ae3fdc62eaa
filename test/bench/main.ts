import { readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { runCli } from '../../src/cli/command.js'
import { flood } from './figures/flood.js'
import { freshness } from './figures/freshness.js'
import { http } from './figures/http.js'
import { identity } from './figures/identity.js'
import { loader } from './figures/loader.js'
import { optionCosts } from './figures/options.js'
import { million } from './figures/million.js'
import { resolve } from './figures/resolve.js'
import { startUp } from './figures/start-up.js'
import { document } from './report/document.js'
import { loadAverage } from './report/machine.js'
import type { Result } from './report/result.js'
import { table } from './report/tables.js'
import { setUp } from './stage/stage.js'

const file = fileURLToPath(new URL('../../docs/benchmarks.md', import.meta.url))

// `npm run bench -- <words>` measures the figures with one of these words in their name, and writes no document.
const words = process.argv.slice(2)

await runCli(async (stopAtEnd) => {
  const loadBefore = loadAverage()
  const stage = await timed('PostgreSQL, with 100,000 tenants', async () => await setUp(stopAtEnd))
  const results: Result[] = []
  for (const [name, measure] of [
    ['the loader', loader], ['GET and PUT /config', http], ['tokens', identity], ['resolve', resolve],
    ['options', optionCosts], ['freshness', freshness], ['a million tenants', million], ['start-up', startUp],
    ['a flood of ten tenants', flood]
  ] as const) {
    if (words.length > 0 && !words.some((word) => name.includes(word))) continue
    results.push(...await timed(name, async () => await measure(stage)))
  }
  console.log(table(results))
  if (words.length > 0) return
  const former = await readFile(file, 'utf8').catch(() => '')
  await writeFile(file, document(results, stage.server.version, loadBefore, former))
})

/** Runs a task, and prints its name and time. */
async function timed<T> (name: string, work: () => Promise<T>): Promise<T> {
  const began = Date.now()
  process.stderr.write(`${name} `)
  const result = await work()
  process.stderr.write(` ${((Date.now() - began) / 1000).toFixed(1)} s\n`)
  return result
}
