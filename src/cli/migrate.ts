import { migrate } from '../db/migrate.js'
import { withDatabase } from './with-database.js'

await withDatabase(async (url) => {
  const applied = await migrate(url)
  console.log(applied.length === 0 ? 'The schema is up to date.' : `Applied ${applied.join(', ')}.`)
})
