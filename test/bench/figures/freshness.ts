import { randomInt } from 'node:crypto'
import pg from 'pg'
import { clock } from '../measure/clock.js'
import { quantile } from '../measure/rounds.js'
import { milliseconds, type Result } from '../report/result.js'
import type { Child } from '../stage/process.js'
import { SEALED, type Stage } from '../stage/stage.js'
import { originOf } from './http.js'

const WRITES = 500

/** Microseconds until the watcher saw a write: since it was sent, and since its answer. */
interface Delay { sent: number, acknowledged: number }

const signal = `
  create table bench_signal (id int primary key, value int not null);
  insert into bench_signal values (1, 0);
  create function bench_signal() returns trigger language plpgsql as $$ begin
    perform pg_notify('bench_signal', value::text) from changed;
    return null;
  end $$;
  create trigger bench_signal after update on bench_signal referencing new table as changed
    for each statement execute function bench_signal()`

/**
 * Measures when the loader of one instance sees an acknowledged write of another. A polling loop watches both the floor
 * and ours.
 */
export async function freshness ({ server, start, tenants, authorize }: Stage): Promise<Result[]> {
  // A separate database, so that neither side's notifications wake the other's listener.
  const url = await server.database()
  const writer = new pg.Client({ connectionString: url })
  // Without it a lost connection, after an interrupt, would prevent the cleanup.
  writer.on('error', () => {})
  await writer.connect()
  await writer.query(signal)
  const listener = await start('listener', { DATABASE_URL: url })
  const [instance, other] = [await start('service-process'), await start('loader')]
  const origin = await originOf(instance)

  async function delay (watcher: Child, row: number, value: number, write: () => Promise<unknown>): Promise<Delay> {
    const seen = watcher.ask('see', row, value)
    const sent = clock()
    await write()
    const acknowledged = clock()
    return { sent: await seen - sent, acknowledged: Math.max(0, await seen - acknowledged) }
  }

  async function put (row: number, appId: number): Promise<void> {
    const headers = { ...authorize({ tenant_id: tenants[row] ?? '' }), 'content-type': 'application/json' }
    const response = await fetch(`${origin}/api/v1/tenant/config`, {
      method: 'PUT',
      headers,
      body: JSON.stringify({ fb_app_id: String(appId) })
    })
    if (!response.ok) throw new Error(`PUT /config answered ${response.status}`)
    await response.arrayBuffer()
  }

  const [floor, ours]: [Delay[], Delay[]] = [[], []]
  for (let value = 1; value <= WRITES; value++) {
    if (value % 50 === 0) process.stderr.write('.')
    floor.push(
      await delay(
        listener,
        1,
        value,
        async () => await writer.query({
          name: 'write',
          text: 'update bench_signal set value = $1 where id = 1',
          values: [value]
        })
      )
    )
    const row = randomInt(SEALED)
    await other.ask('load', row, 1)
    ours.push(await delay(other, row, value, async () => await put(row, value)))
  }
  await writer.end()
  await Promise.all([listener.end(), instance.end(), other.end()])

  /** The delay since this event; `limit`, in milliseconds, sets a goal. */
  function result (event: keyof Delay, fraction: number, limit?: number): Result {
    const [our, bare] = [
      quantile(ours.map((delay) => delay[event]), fraction),
      quantile(floor.map((delay) => delay[event]), fraction)
    ]
    return {
      figure: `a write on one instance seen on another, since it was ${event}, p${fraction * 100}`,
      ours: milliseconds(our),
      floor: milliseconds(bare),
      ratio: our / bare,
      ...(limit === undefined
        ? {}
        : {
            goal: `≤ ${limit} ms, ≤ 2 × the floor`,
            met: our <= limit * 1000 && our <= 2 * bare
          })
    }
  }
  return [result('acknowledged', 0.5, 2), result('acknowledged', 0.99, 15), result('sent', 0.5), result('sent', 0.99)]
}
