import { fileURLToPath } from 'node:url'
import { setTimeout as delay } from 'node:timers/promises'
import { readOptions, runCli, type StopAtEnd } from '../../src/cli/command.js'
import { startGraph } from '../graph/server.js'
import { faultsOf, fill, openDatabase, openReader } from './database.js'
import { buildFormer } from './former.js'
import { startFreshness, startLoader } from './freshness.js'
import { runCommand, startService, type Service } from './service.js'
import { send, startTraffic, type Phase } from './traffic.js'
import { createRequests } from './requests.js'

const USAGE = `Upgrades a database that another commit made and serves, under load. Fails when a request fails, or when
a change through one version is not seen by the other one within a second.
  npm run upgrade -- [--from <commit>] [--rows 1000000] [--hold 30] [--seconds 60]`
/** The last commit that seals in v1 alone. 51f65da, and 4cbde5b, the last one without migration 0003, work too. */
const FORMER = 'd167127'
const present = fileURLToPath(new URL('../..', import.meta.url))

await runCli(async (stopAtEnd) => {
  const options = readOptions(
    { from: { type: 'string' }, rows: { type: 'string' }, hold: { type: 'string' }, seconds: { type: 'string' } },
    USAGE
  )
  const { from = FORMER, rows = '1000000', hold = '30', seconds = '60' } = options
  print(`Building ${from}`)
  const { dir: former } = await stopAtEnd(buildFormer(from), async ({ remove }) => { await remove() })
  const { url } = await stopAtEnd(openDatabase(), async ({ remove }) => { await remove() })
  const meta = await stopAtEnd(startGraph(), async (meta) => { await meta.close() })
  const { settings, call, login, creations, next, addWaba } = createRequests(url, meta)
  const serve = async (dir: string) => await startUntilEnd(stopAtEnd, dir, settings)

  print(`Filling its database with ${rows} tenants`)
  await runCommand(former, 'migrate.js', settings)
  await fill(url, Number(rows))
  const old = await serve(former)
  for (const creation of creations()) await send(old, creation)
  // The owner onboards one of the two numbers; the squatter configures the other one.
  const waba = addWaba([{ id: 'number-1' }, { id: 'number-2' }])
  await send(old, login('owner', waba))
  await send(
    old,
    call('POST', '/config', 'squatter', { waba_id: waba.id, phone_number_id: 'number-2', access_token: 'x' })
  )
  meta.fail('subscribe', { latency_ms: 0, drop: true })
  await send(old, login('waiting'))
  meta.fail('subscribe', { latency_ms: 8000 })
  const pending = send(old, login('pending'))

  const load = async (dir: string) => await stopAtEnd(startLoader(dir, settings), async ({ stop }) => { await stop() })
  const origins = [old]
  const loaders = [await load(former)]
  const traffic = startTraffic(origins, next, 'the former version alone')
  const freshness = startFreshness(origins, loaders, call)
  await delay(5000)
  const reader = await stopAtEnd(openReader(url), async (reader) => { await reader.end() })
  const closing = delay(Number(hold) * 1000).then(async () => { await reader.query('commit') })
  traffic.startPhase(`while the new version migrates, a reader open for ${hold} s`)
  const migrationMs = await runCommand(
    present,
    'migrate.js',
    settings,
    ({ ms, text }) => { print(`  after ${inSeconds(ms)} s: ${text}`) }
  )
  await closing
  traffic.startPhase('while the new version and another former one start')
  for (const dir of [present, former]) origins.push(await serve(dir))
  loaders.push(await load(present))
  traffic.startPhase(`all side by side for ${seconds} s`)
  await delay(Number(seconds) * 1000)
  const seen = await freshness.stop()
  const phases = await traffic.stop()

  const resumed = await send(String(origins[1]), call('POST', '/onboard/whatsapp-client/resume', 'waiting'))
  const verified = await send(String(origins[1]), login('owner', waba))
  const faults = [
    ...phases.flatMap(({ failures }) => failures),
    ...seen.faults,
    ...Object.entries({ pending: await pending, resumed, verified }).flatMap(
      ([name, { status, text }]) => status < 300 ? [] : [`onboarding ${name}: ${status} ${text}`]
    ),
    ...await faultsOf(url)
  ]
  print(`\nMigrating ${rows} tenants took ${inSeconds(migrationMs)} s.\n\n${table(phases)}\n`)
  print(`${seen.changes} changes were seen by both versions, the last one after ${Math.round(seen.longest)} ms.\n`)
  if (faults.length > 0) throw new Error(`${faults.slice(0, 50).join('\n')}\n${faults.length} faults`)
})

async function startUntilEnd (stopAtEnd: StopAtEnd, dir: string, settings: Record<string, string>): Promise<string> {
  const { origin } = await stopAtEnd<Service>(startService(dir, settings), async (service) => { await service.stop() })
  return origin
}

function table (phases: Phase[]): string {
  const rows = phases.map(({ name, requests, failures, p50, p99, longest }) =>
    [name, String(requests), String(failures.length), ...[p50, p99, longest].map((ms) => `${Math.round(ms)} ms`)])
  return [
    ['phase', 'requests', 'failed', 'p50', 'p99', 'longest'],
    Array<string>(6).fill('---'),
    ...rows
  ].map((row) => `| ${row.join(' | ')} |`).join('\n')
}

function print (text: string): void {
  console.log(text)
}

function inSeconds (ms: number): string {
  return (ms / 1000).toFixed(1)
}
