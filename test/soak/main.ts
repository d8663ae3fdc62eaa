import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { readOptions, runCli } from '../../src/cli/command.js'
import { freePort } from '../fixtures/free-port.js'
import { embeddedServer } from '../bench/stage/database.js'
import { restartEmbedded } from '../bench/stage/restart.js'
import { startPgBouncer } from '../fixtures/postgres/pgbouncer.js'
import { startGraph } from '../graph/server.js'
import { query, until } from '../helper.js'
import { createRequests } from '../upgrade/requests.js'
import { runCommand, startService, type Service } from '../upgrade/service.js'
import { send } from '../upgrade/traffic.js'
import { leftConnections } from './connections.js'
import { startHaproxy } from './haproxy.js'
import { runLoad, type LoadResult, type Windows } from './load.js'
import { watchable, watchMemory, type Memory } from './memory.js'
import { createOthers, type Customer } from './others.js'
import { createTenant } from './tenants.js'

const USAGE = `Runs two instances behind PgBouncer and HAProxy, kills one, and restarts PostgreSQL. Fails at a fault.
  npm run soak -- [--seconds 1200] [--rate 200]`
const TENANTS = 1000
const CUSTOMERS = 20
/** The memory of an instance may grow so much after its warm-up; a run of less than 10 minutes is all warm-up. */
const MAX_GROWTH = 1.1
const LONG_RUN_S = 600
/** PgBouncer and the pools need so long to notice that PostgreSQL is back. */
const SETTLE_MS = 3000

const present = fileURLToPath(new URL('../..', import.meta.url))
const print = (text: string) => { console.log(text) }

await runCli(async (stopAtEnd) => {
  const { seconds = '1200', rate = '200' } = readOptions(
    { seconds: { type: 'string' }, rate: { type: 'string' } }, USAGE
  )
  const server = await stopAtEnd(embeddedServer(), async ({ close }) => { await close() })
  await query(server.url, 'create database wtc_soak')
  const url = Object.assign(new URL(server.url), { pathname: '/wtc_soak' }).href
  const role = new URL(url).username
  const pooler = await stopAtEnd(
    startPgBouncer(url, {
      mode: 'transaction',
      settings: [`stats_users = ${role}`, 'server_login_retry = 1']
    }),
    async ({ stop }) => { await stop() }
  )
  const poolerUrl = pooler.urlOf(url)
  const meta = await stopAtEnd(startGraph(), async (meta) => { await meta.close() })
  const requests = createRequests(poolerUrl, meta)
  const settings = {
    ...requests.settings,
    NODE_ENV: 'production',
    NODE_OPTIONS: watchable,
    DATABASE_DIRECT_URL: url,
    OAUTH_STATE: 'optional',
    ...Object.fromEntries(['TENANT', 'META', 'ADDRESS'].map((scope) => [`RATE_LIMIT_${scope}_PER_MINUTE`, '0']))
  }
  await runCommand(present, 'migrate.js', { ...settings, DATABASE_URL: url })
  const ports = [await freePort(), await freePort()]
  const serve = async (port: number) =>
    await stopAtEnd<Service>(startService(present, settings, port), async ({ stop }) => { await stop() })
  const [first, second] = await Promise.all([serve(Number(ports[0])), serve(Number(ports[1]))])
  const proxy = await stopAtEnd(startHaproxy(ports), async ({ stop }) => { await stop() })

  const customers = await connectCustomers(proxy.origin, requests)
  const tenants = Array.from({ length: TENANTS }, (_, number) => createTenant(`soak-${number}`, requests))
  const never = { from: Infinity, to: Infinity }
  const windows: Windows = { kill: { ...never }, restart: { ...never } }
  const memories: Record<string, Memory> = {}
  const memoryOfFirst = watchMemory(first.pid)
  const durationMs = Number(seconds) * 1000
  const end = performance.now() + durationMs

  print(`${rate} requests a second for ${seconds} s`)
  const loading = runLoad(
    proxy.origin, Number(rate), tenants, createOthers(requests, customers), windows, () => performance.now() > end
  )
  // It is awaited only at the end; until then a failure must not end this process.
  loading.catch(() => {})
  await delay(durationMs * 0.1)
  windows.kill = { from: performance.now(), to: Infinity }
  await second.stop('SIGKILL')
  windows.kill.to = performance.now()
  await delay(durationMs * 0.05)
  const third = await serve(Number(ports[1]))
  const memoryOfThird = watchMemory(third.pid)
  print('One instance was killed and started again')

  await delay(durationMs * 0.2)
  windows.restart = { from: performance.now(), to: Infinity }
  await restartEmbedded(url)
  await until(async () => await query(poolerUrl, 'select').then(() => true, () => false), 60_000)
  const restartMs = performance.now() - windows.restart.from
  windows.restart.to = performance.now() + SETTLE_MS
  print(`PostgreSQL was restarted within ${(restartMs / 1000).toFixed(1)} s`)

  const load = await loading
  memories['the one that ran throughout'] = await memoryOfFirst.stop()
  memories['the one that was started again'] = await memoryOfThird.stop()
  for (const instance of [first, third]) await instance.stop()
  const left = await leftConnections(url, poolerUrl)
  const faults = [
    ...load.faults,
    ...Object.entries(memories).filter(
      ([, { warm, end }]) => Number(seconds) >= LONG_RUN_S && !(end <= MAX_GROWTH * warm)
    ).map(
      ([name, { warm, end }]) => `memory of ${name}: ${end.toFixed(0)} MiB after ${warm.toFixed(0)} MiB`
    ),
    ...left
  ]
  print(`\n${table(load, memories, left.length)}\n`)
  if (faults.length > 0) throw new Error(`${faults.slice(0, 50).join('\n')}\n${faults.length} faults`)
})

/** Onboards the customers whose credentials are verified again and again. */
async function connectCustomers (origin: string, { login }: ReturnType<typeof createRequests>): Promise<Customer[]> {
  const customers: Customer[] = []
  for (let number = 0; number < CUSTOMERS; number++) {
    const name = `customer-${number}`
    const request = login(name)
    const { status, text } = await send(origin, request)
    if (status !== 201) throw new Error(`the onboarding of ${name} answered ${status} ${text}`)
    customers.push({ name, waba: Object(request.body).waba_id })
  }
  return customers
}

function table (load: LoadResult, memories: Record<string, Memory>, left: number): string {
  const ms = (time: number) => `${Math.round(time)} ms`
  const statuses = Object.entries(load.byStatus).map(([status, count]) => `${status}: ${count}`).join(', ')
  return [
    ['figure', 'value'],
    ['---', '---'],
    ['requests', String(load.sent)],
    ['requests a second', load.rate.toFixed(1)],
    ['by status', statuses],
    ['p50, p99, longest', [load.p50, load.p99, load.longest].map(ms).join(', ')],
    ['lost in flight by the kill', String(load.killed)],
    ['DATABASE_UNAVAILABLE or AUDIT_UNAVAILABLE while PostgreSQL restarted', String(load.unavailable)],
    ['wrong answers and other failures', String(load.faults.length)],
    ...Object.entries(memories).map(([name, { warm, end }]) =>
      [`memory of ${name}, MiB`, `${warm.toFixed(0)}, at the end ${end.toFixed(0)} (× ${(end / warm).toFixed(2)})`]),
    ['connections left', String(left)]
  ].map((row) => `| ${row.join(' | ')} |`).join('\n')
}
