import pg from 'pg'
import { connectionsOf, stallChanges } from '../fixtures/operations.js'
import type { OwnPostgres } from '../fixtures/postgres/own-postgres.js'
import { query, until } from '../helper.js'
import { canary } from './canaries.js'
import type { Answer } from './misplaced.js'

export const CONFIG = '/api/v1/tenant/config'

/** Four secrets and a number. */
export const secrets = () => ({
  phone_number_id: canary('id').slice(-12),
  access_token: canary('access_token'),
  fb_app_secret: canary('fb_app_secret'),
  verify_token: canary('verify_token'),
  refresh_token: canary('refresh_token')
})

export type Send = (
  tenantId: string, method: string, path: string, body?: object, headers?: Record<string, string>
) => Promise<Answer>

/** Writes secrets while the database fails in many ways; calls `meanwhile` during each of them. */
export async function breakDatabase (send: Send, postgres: OwnPostgres, meanwhile: () => Promise<void>): Promise<void> {
  const { url } = postgres
  const put = async () => await send('second', 'PUT', CONFIG, secrets())
  const post = async () => await send('third', 'POST', CONFIG, secrets())
  // The error of PostgreSQL quotes the whole row and the statement.
  await query(url, "alter table tenant_configs add constraint never check (tenant_id <> 'third')")
  await post()
  await query(url, 'alter table tenant_configs drop constraint never')
  await query(url, 'alter table tenant_configs rename column verify_token to renamed')
  await Promise.all([put(), post(), meanwhile()])
  await query(url, 'alter table tenant_configs rename column renamed to verify_token')

  const stall = await stallChanges(url)
  await put()
  const interrupted = put()
  await stall.waiting()
  const pids = await connectionsOf(url, "wait_event = 'PgSleep'")
  await Promise.all(pids.map(async (pid) => await query(url, 'select pg_terminate_backend($1)', [pid])))
  await interrupted
  await stall.release()

  // No new connection is possible: the password differs from that of the service.
  const control = new pg.Client({ connectionString: url })
  await control.connect()
  // The log would show the password.
  await control.query('set log_statement = none; set log_min_duration_statement = -1')
  await control.query("alter role postgres password 'another'")
  await control.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'whatsapp-tenant-config'"
  )
  await Promise.all([put(), meanwhile()])
  await control.query(`alter role postgres password '${postgres.password}'`)
  await control.end()

  await postgres.stop('immediate')
  await Promise.all([put(), meanwhile()])
  await postgres.start()
  await until(async () => (await put()).status === 200)
  await postgres.freeze()
  await Promise.all([put(), post(), meanwhile()])
  postgres.thaw()
}
