import { migrate } from '../database/migrations/migrations.js'
import { readOptions, runCli } from './command.js'
import { readCommandEnv } from './command-settings.js'
import { startDatabase } from './start-database.js'

const USAGE = 'Brings the database of DATABASE_DIRECT_URL, else of DATABASE_URL ' +
  '(unset: the embedded one in DATA_DIR), up to date.\n  npm run db:migrate'

await runCli(async (stopAtEnd) => {
  readOptions({}, USAGE)
  const env = await readCommandEnv()
  const applied = await migrate(await startDatabase(stopAtEnd, env), {
    rolePrefix: env.DATABASE_ROLE_PREFIX, report: console.error
  })
  console.log(applied.length === 0 ? 'The schema is up to date.' : `Applied ${applied.join(', ')}.`)
})
