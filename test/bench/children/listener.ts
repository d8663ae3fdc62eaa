import { setImmediate } from 'node:timers/promises'
import pg from 'pg'
import { clock } from '../measure/clock.js'
import { TIMEOUT_US, serve, settings } from './serve.js'

// The minimum for seeing a write: a connection that listens.
const client = new pg.Client({ connectionString: settings.DATABASE_URL })
await client.connect()
let latest = 0
client.on('notification', ({ payload }) => { latest = Number(payload) })
await client.query('listen bench_signal')

serve({
  /** Polls until this value was notified, as the loader is polled; returns the time. */
  async see (_row, value) {
    for (const end = clock() + TIMEOUT_US; clock() < end; await setImmediate()) if (latest === value) return clock()
    return Infinity
  }
})
