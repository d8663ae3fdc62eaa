import { readOptions, runCli } from '../../src/cli/command.js'
import { migrate } from '../../src/database/migrations/migrations.js'
import { embeddedServer, identify } from '../bench/stage/database.js'
import { restartEmbedded } from '../bench/stage/restart.js'
import { query } from '../helper.js'
import { measureListeners } from './listeners.js'
import { measureTenants } from './tenants.js'

const USAGE = `Measures how sizes and times grow with the tenants, and how notifications reach many listeners.
  npm run scale -- [--rows 1000000,4000000,10000000] [--listeners 200] [--rates 10,50,100,200,500,1000]`

await runCli(async (stopAtEnd) => {
  const { rows = '1000000,4000000,10000000', listeners = '200', rates = '10,50,100,200,500,1000' } = readOptions(
    { rows: { type: 'string' }, listeners: { type: 'string' }, rates: { type: 'string' } }, USAGE
  )
  const { url } = await stopAtEnd(embeddedServer(), async ({ close }) => { await close() })
  await query(url, `alter system set max_connections = ${Number(listeners) + 50}`)
  await restartEmbedded(url)
  const { postmaster } = await identify(url)
  for (const count of rows.split(',').map(Number)) {
    await query(url, 'drop database if exists wtc_scale with (force)')
    await query(url, 'create database wtc_scale')
    const own = Object.assign(new URL(url), { pathname: '/wtc_scale' }).href
    await migrate(own)
    print(['figure', `${count.toLocaleString('en')} tenants`], await measureTenants(own, count))
    if (!rows.endsWith(String(count))) continue
    print(
      ['writes a second', 'reached', 'p50', 'p99', 'cores of PostgreSQL', 'queue used', '% delivered'],
      await measureListeners(own, postmaster, Number(listeners), count, rates.split(',').map(Number))
    )
  }
})

function print (head: string[], rows: string[][]): void {
  const lines = [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`)
  console.log(`\n${lines.join('\n')}`)
}
