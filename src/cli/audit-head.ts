import { readHeads } from '../audit/inspection.js'
import { withClient } from '../database/connection.js'
import { readOptions, runCli } from './command.js'
import { readCommandEnv } from './command-settings.js'
import { joinDatabase } from './start-database.js'

const USAGE = `Prints the head of each chain of the audit log, one JSON a line. Keep them outside the database.
  npm run -s audit:head [-- --tenant <id>]`

await runCli(async (stopAtEnd) => {
  const { tenant } = readOptions({ tenant: { type: 'string' } }, USAGE)
  const url = await joinDatabase(stopAtEnd, await readCommandEnv())
  await withClient(url, async (client) => {
    await readHeads(client, tenant, (heads) => {
      console.log(heads.map((head) => JSON.stringify(head)).join('\n'))
    })
  })
})
