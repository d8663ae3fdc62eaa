import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'

const CHANNEL = 'whatsapp_tenant_config_session'
/** A notification takes milliseconds. */
const NOTIFICATION_TIMEOUT_MS = 2000

/** Whether a pooler stands between a client and PostgreSQL: it answers the login with a process id of its own. */
export async function isPooled (client: pg.Client): Promise<boolean> {
  const { rows: [backend] } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
  return !('processID' in client) || client.processID !== backend?.pid
}

/**
 * Tells whether a client keeps its connection to PostgreSQL between transactions. Behind a pooler in transaction mode
 * it does not, and a notification for it gets lost.
 *
 * @param client connected
 * @param other another client with the same URL, connected
 */
export async function keepsSession (client: pg.Client, other: pg.Client): Promise<boolean> {
  if (!await isPooled(client)) return true
  const payload = randomUUID()
  const arrived = new Promise<boolean>((resolve) => {
    client.on('notification', (notification) => { if (notification.payload === payload) resolve(true) })
  })
  await client.query(`listen ${CHANNEL}`)
  // By the other client: PostgreSQL sends a notification of one's own with the answer.
  await other.query('select pg_notify($1, $2)', [CHANNEL, payload])
  return await Promise.race([arrived, delay(NOTIFICATION_TIMEOUT_MS, false)])
}
