import { setTimeout as delay } from 'node:timers/promises'
import { sql } from 'drizzle-orm'
import t from '../run/tap.js'
import { buildTestApp } from '../helper.js'

await t.test('after a pause a burst of requests finds the connections of the burst before', async (t) => {
  const { app } = await buildTestApp(t, { DATABASE_POOL_MAX: 5 })
  const burst = async () => {
    const one = sql<{ pid: number }>`select pg_backend_pid() as pid, pg_sleep(0.5)`
    const rows = await Promise.all(Array.from({ length: 5 }, async () => await app.database.run(one)))
    return rows.flat().map(({ pid }) => pid).toSorted()
  }
  const before = await burst()
  t.equal(new Set(before).size, 5)
  // By default pg-pool closes an idle connection after 10 s.
  await delay(12_000)
  t.strictSame(await burst(), before)
})
