import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { quantile } from '../bench/measure/rounds.js'
import { postgresCpu } from '../bench/measure/postgres-cpu.js'
import { query } from '../helper.js'

const WRITERS = 8
const SECONDS = 5

/** Listens as so many instances do, at several rates of writes; returns a row of figures for each rate. */
export async function measureListeners (
  url: string, postmaster: number, count: number, tenants: number, rates: number[]
): Promise<string[][]> {
  const sentAt = new Map<string, number>()
  let delays: number[] = []
  const connect = async () => {
    const client = new pg.Client(url)
    await client.connect()
    return client
  }
  const listeners = await connectAll(count, connect)
  for (const listener of listeners) {
    listener.on('notification', ({ payload = '' }) => {
      // The payload is [[tenant id, …]], one for each changed row.
      const sent = sentAt.get(String(/^\[\["([^"]+)"/.exec(payload.replaceAll(' ', ''))?.[1]))
      if (sent !== undefined) delays.push(performance.now() - sent)
    })
    await listener.query('listen tenant_configs')
  }
  const writers = await connectAll(WRITERS, connect)

  /** Writes for some seconds at a rate; each write commits by itself and changes another tenant. */
  async function write (perSecond: number): Promise<string[]> {
    sentAt.clear()
    delays = []
    let written = 0
    const began = performance.now()
    const cpuBefore = postgresCpu(postmaster)
    await Promise.all(writers.map(async (writer) => {
      while (performance.now() - began < SECONDS * 1000) {
        const due = (performance.now() - began) / 1000 * perSecond
        if (written >= due) {
          await delay(2)
          continue
        }
        const tenant = `tenant-${(++written % tenants) + 1}`
        sentAt.set(tenant, performance.now())
        await writer.query('update tenant_configs set fb_app_id = $2 where tenant_id = $1', [tenant, String(written)])
      }
    }))
    const seconds = (performance.now() - began) / 1000
    const [usage] = await query(url, 'select pg_notification_queue_usage() as used')
    await arrivals(() => delays.length >= written * count)
    const cores = (postgresCpu(postmaster) - cpuBefore) / 1e6 / ((performance.now() - began) / 1000)
    return [
      String(perSecond), (written / seconds).toFixed(0), `${quantile(delays, 0.5).toFixed(1)} ms`,
      `${quantile(delays, 0.99).toFixed(1)} ms`, cores.toFixed(2), String(usage?.['used']),
      (delays.length / (written * count) * 100).toFixed(1)
    ]
  }

  const rows: string[][] = []
  for (const rate of rates) rows.push(await write(rate))
  await Promise.all([...listeners, ...writers].map(async (client) => { await client.end() }))
  return rows
}

/** Waits at most 10 seconds for the last notifications. */
async function arrivals (areAllHere: () => boolean): Promise<void> {
  for (const end = performance.now() + 10_000; !areAllHere() && performance.now() < end;) await delay(10)
}

async function connectAll (count: number, connect: () => Promise<pg.Client>): Promise<pg.Client[]> {
  const clients: pg.Client[] = []
  while (clients.length < count) clients.push(await connect())
  return clients
}
