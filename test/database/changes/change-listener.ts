import { EventEmitter, once } from 'node:events'
import type { Test } from 'tap'
import { connect, createDatabase } from '../../helper.js'

/** The payload that names no rows. */
export const ANY = ''

/** Creates a writer and a listener on a database, by default on a new, migrated one. */
export async function createChangeListener (t: Test, url?: string) {
  const databaseUrl = url ?? await createDatabase(t)
  const writer = await connect(t, databaseUrl)
  const listener = await connect(t, databaseUrl)
  await listener.query('listen tenant_configs; listen done')
  const received: unknown[] = []
  const markers = new EventEmitter()
  listener.on('notification', ({ channel, payload = '' }) => {
    if (channel === 'done') markers.emit('done')
    else received.push(payload === ANY ? ANY : sorted(JSON.parse(payload)))
  })

  /**
   * Executes the work and returns the payloads of its notifications, each with sorted rows. Notifications arrive in
   * commit order, so a final marker shows that none is missing.
   */
  async function payloadsOf (work: string | (() => Promise<unknown>), values?: unknown[]): Promise<unknown[]> {
    await (typeof work === 'string' ? writer.query(work, values) : work())
    const done = once(markers, 'done')
    await writer.query('notify done')
    await done
    return received.splice(0)
  }
  return { writer, payloadsOf, url: databaseUrl }
}

export const sorted = (rows: unknown[]) =>
  rows.map((row) => JSON.stringify(row)).sort().map((row): unknown => JSON.parse(row))

/** A row of a payload: the ids of tenant, number and account. */
export const change = (...ids: unknown[]) => ids

/** Selects ids for rows with these numbers. */
export const rows = (from: number, to: number) =>
  `select 't' || n, 'p' || n, 'w' || n % 3 from generate_series(${from}, ${to}) as n`

export const insert = 'insert into tenant_configs (tenant_id, phone_number_id, waba_id)'
