import { query, until } from '../helper.js'

/** States of a connection of PgBouncer that nobody uses; after 30 s it is `used`. Source: pgbouncer.org/usage.html */
const IDLE_STATES = ['idle', 'used']

/** The connections that are left once the instances have ended, as faults. */
export async function leftConnections (url: string, poolerUrl: string): Promise<string[]> {
  const database = new URL(url).pathname.slice(1)
  const admin = Object.assign(new URL(poolerUrl), { pathname: '/pgbouncer' }).href
  const show = async (what: string) =>
    (await query(admin, `show ${what}`)).filter((row) => row['database'] === database)
  const rows = async () => await query(url, `select client_port as port, state, query from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'`)

  // The backend of a closed connection needs a moment to end.
  let faults: string[] = []
  await until(async () => {
    const [clients, servers, backends] = [await show('clients'), await show('servers'), await rows()]
    const pooled = new Set(servers.map((server) => server['local_port']))
    faults = [
      ...clients.map((client) => `PgBouncer still has a client: ${String(client['state'])}`),
      ...servers.filter((server) => !IDLE_STATES.includes(String(server['state']))).map(
        (server) => `PgBouncer has a connection to PostgreSQL that is not idle: ${String(server['state'])}`
      ),
      ...backends.filter(({ port, state }) => !pooled.has(port) || state !== 'idle').map(
        ({ state, query }) => `PostgreSQL has a connection: ${String(state)}: ${String(query).slice(0, 100)}`
      )
    ]
    return faults.length === 0
  }, 5000).catch(() => {})
  return faults
}
