import { migrate } from '../database/migrations/migrations.js'
import { command, readOptions } from './command.js'
import { databaseUrl } from './database-url.js'

const USAGE = `Brings the database of DATABASE_DIRECT_URL, else of DATABASE_URL (unset: the embedded one in DATA_DIR), up to date.
  npm run db:migrate`

await command(async (hold) => {
  readOptions({}, USAGE)
  const applied = await migrate(await databaseUrl(hold), { report: console.error })
  console.log(applied.length === 0 ? 'The schema is up to date.' : `Applied ${applied.join(', ')}.`)
})
