import pg from 'pg'
import { perOne, serve, settings } from './serve.js'
import { loaded, types } from './columns.js'
import { inFlight } from './in-flight.js'
import { tenantIds } from './tenant-ids.js'

// The minimum for a load: the same columns of the row, with a named prepared statement.
const pool = new pg.Pool({ connectionString: settings.DATABASE_URL, max: 10, types })
const keys = await tenantIds()
const select = (id: string) => pool.query({
  name: 'select',
  text: `select ${loaded} from tenant_configs where tenant_id = $1`,
  values: [id]
})

serve({
  load: async (from, count) =>
    await perOne(count, async () => { await inFlight(keys.slice(from, from + count), select) })
})
