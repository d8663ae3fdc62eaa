import { query } from '../../helper.js'
import { settings } from './serve.js'

/** The ids of all tenants, in the order of their rows. */
export async function tenantIds (): Promise<string[]> {
  return (await query(settings.DATABASE_URL, 'select tenant_id from tenant_configs order by id')).map(
    ({ tenant_id: id }) => String(id)
  )
}
