import { aboutConnections, query, until, type TestApp } from '../../helper.js'

/** Locks the configurations against reads and writes. */
export const LOCK = 'begin; lock table tenant_configs in access exclusive mode'

/** Ends the connections of the service in the database. */
export const TERMINATE_ALL = 'select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = ' +
  "current_database() and application_name = 'whatsapp-tenant-config'"

/**
 * Ends all connections of the service until its pool is empty: background work may open a connection in the meantime.
 * The connections of the service to a pooler stay open.
 */
export async function loseConnections ({ app }: TestApp, databaseUrl: string): Promise<void> {
  await until(async () => {
    await query(databaseUrl, TERMINATE_ALL)
    return aboutConnections.skip !== false || app.pg['tenantConfig']?.pool.totalCount === 0
  })
}
