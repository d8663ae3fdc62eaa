import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readOptions, runCli } from '../../src/cli/command.js'
import { withConnection } from '../../src/database/connection.js'
import { migrate } from '../../src/database/migrations/migrations.js'
import { rotateKeys } from '../../src/vault/rotation/rotation.js'
import { createVault } from '../../src/vault/vault.js'
import { postgresCpu } from '../bench/measure/postgres-cpu.js'
import { embeddedServer, identify } from '../bench/stage/database.js'
import { QUIET } from '../cluster/where.js'
import { startGraph } from '../graph/server.js'
import { childEnv, query } from '../helper.js'
import { createRequests } from '../upgrade/requests.js'
import { startService, type Service } from '../upgrade/service.js'
import { runTrial } from './trial.js'

const USAGE = `Turns the keys of many tenants under load, and kills the rotation three times. Fails if a value is lost,
unreadable or left. Then it measures a rotation without load.
  npm run rotation -- [--tenants 100000]`

const present = fileURLToPath(new URL('../..', import.meta.url))
const print = (text: string) => { console.log(text) }

await runCli(async (stopAtEnd) => {
  const { tenants = '100000' } = readOptions({ tenants: { type: 'string' } }, USAGE)
  const server = await stopAtEnd(embeddedServer(), async ({ close }) => { await close() })
  await query(server.url, 'create database wtc_rotation')
  const url = Object.assign(new URL(server.url), { pathname: '/wtc_rotation' }).href
  await migrate(url)
  await query(url, QUIET)
  const meta = await stopAtEnd(startGraph(), async (meta) => { await meta.close() })
  const requests = createRequests(url, meta)
  const settings = { ...requests.settings, OAUTH_STATE: 'optional' }
  const { values, seconds, requests: sent, faults, keyRing } = await runTrial({
    url,
    tenants: Number(tenants),
    meta,
    requests,
    startService: async (keyRing) => await stopAtEnd<Service>(
      startService(present, { ...settings, ENCRYPTION_KEYS: keyRing }), async ({ stop }) => { await stop() }
    ),
    startRotation: (keyRing) => spawn(process.execPath, [join(present, 'dist/cli/keys/rotate.js')], {
      env: childEnv({ ...settings, ENCRYPTION_KEYS: keyRing }), stdio: ['ignore', 'pipe', 'inherit']
    }),
    print
  })
  const alone = await measureAlone(url, keyRing)
  print(table([
    ['figure', 'value'],
    ['---', '---'],
    ['values', String(values)],
    ['requests during the rotation', String(sent)],
    ['from the last kill to the end of both rotations', `${seconds.toFixed(0)} s`],
    ['without load, values a second', (alone.replaced / alone.seconds).toFixed(0)],
    ['without load, values for a second of CPU', (alone.replaced / alone.cpuSeconds).toFixed(0)],
    ['faults', String(faults.length)]
  ]))
  if (faults.length > 0) throw new Error(`${faults.slice(0, 50).join('\n')}\n${faults.length} faults`)
})

/** Rotates all values once more, to `v1`, and measures the time and the CPU time of this process and of PostgreSQL. */
async function measureAlone (url: string, keyRing: string) {
  const { postmaster } = await identify(url)
  const [began, cpuBefore, postgresBefore] = [performance.now(), process.cpuUsage(), postgresCpu(postmaster)]
  const { replaced } = await withConnection(url, async (db) =>
    await rotateKeys(db, createVault({ keyRing }), { format: 'v1', waitMs: 0, report: () => {} }))
  const { user, system } = process.cpuUsage(cpuBefore)
  return {
    replaced,
    seconds: (performance.now() - began) / 1000,
    cpuSeconds: (user + system + postgresCpu(postmaster) - postgresBefore) / 1e6
  }
}

function table (rows: string[][]): string {
  return `\n${rows.map((row) => `| ${row.join(' | ')} |`).join('\n')}\n`
}
