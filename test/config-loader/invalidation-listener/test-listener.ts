import pg from 'pg'
import type { Test } from 'tap'
import { sessionOptions } from '../../../src/database/connection.js'
import { createInvalidationListener } from '../../../src/config-loader/invalidation-listener.js'
import type { RowChange } from '../../../src/tenant-configs/tenant-configs.js'
import { query } from '../../helper.js'

/** Selects the server processes of listeners in a database. */
export const LISTENERS = 'select pid from pg_stat_activity where datname = current_database() and application_name = ' +
  "'whatsapp-tenant-config listen'"

/** Creates a listener over these URLs that records its events; closed when the test ends. */
export function createTestListener (
  t: Test,
  { url, notifyUrl = url, notify }: { url: string, notifyUrl?: string, notify?: () => Promise<unknown> }
) {
  const received: Array<RowChange[] | null> = []
  const transitions: string[] = []
  const logLines: string[] = []
  /** The times of the attempts to connect (ms of `performance.now()`). */
  const attempts: number[] = []
  const target = { notifyUrl }
  const listener = createInvalidationListener({
    connect (config) {
      attempts.push(performance.now())
      return new pg.Client({ ...sessionOptions(url), ...config })
    },
    notify: notify ?? (async (name) => await query(target.notifyUrl, `notify ${name}`)),
    log: { info: (text) => { logLines.push(text) }, warn: (_detail, text) => { logLines.push(text) } }
  })
  t.teardown(listener.close)
  const refusals: number[] = []
  const isUp = () => performance.now() < listener.health.validUntil
  const listeners = {
    onChanges: (changes: RowChange[] | null) => { received.push(changes) },
    onConnect: () => { transitions.push('connect') },
    onLoss: () => { transitions.push(isUp() ? 'loss while up' : 'loss') },
    onRefusal: () => { refusals.push(performance.now()) }
  }
  const open = async () => await listener.open(listeners)
  return { ...listener, received, transitions, refusals, logLines, attempts, target, open, isUp }
}

/** The duration of the work in ms. */
export async function timed (work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now()
  await work()
  return performance.now() - begun
}

/** Writes a row, which notifies the listener. */
export const insert = async (url: string, id: string) => await query(
  url,
  'insert into tenant_configs (tenant_id) values ($1)',
  [id]
)
