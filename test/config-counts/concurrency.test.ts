import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { connect, untilWaiting } from '../helper.js'
import { countedDatabase } from './plain-counts.js'

await t.test('open transactions of other tenants do not delay a write, nor the statistics', async (t) => {
  const { url, assertExact, fold } = await countedDatabase(t)
  const writers = await Promise.all(Array.from({ length: 4 }, async () => await connect(t, url)))
  // A lock that is not free would end the statement.
  for (const [i, writer] of writers.entries()) {
    await writer.query(`set lock_timeout = '1s'; begin;
      insert into tenant_configs (tenant_id, access_token, token_expires_at) values ('${i}', 'x', '2030-01-01Z');
      update tenant_configs set is_active = false, onboarding_completed = true where tenant_id = '${i}';
      update token_watch set status = 'ok' where tenant_id = '${i}';
      insert into phone_numbers (tenant_id, phone_number_id) values ('${i}', '${i}')`)
    t.match(await assertExact('while they are open'), { total: 0 })
    await fold()
  }
  for (const [i, writer] of writers.entries()) {
    await writer.query(i === 3 ? 'rollback' : 'commit')
    t.match(await assertExact('after an end'), { total: Math.min(i + 1, 3) })
  }
})

/** Statements that a writer mixes; `i` names its tenant. */
const writes = [
  (i: number) => `insert into tenant_configs (tenant_id, access_token, token_expires_at, phone_number_id)
    values ('t${i}', 'x', now() + ${i} * interval '7 hours', '${i}') on conflict do nothing`,
  (i: number) => `update tenant_configs set is_active = not is_active where tenant_id = 't${i}'`,
  (i: number) => `update tenant_configs set onboarding_completed = true, token_expires_at = now()
    where id % 7 = ${i % 7}`,
  (i: number) => `update token_watch set status = 'ok' where tenant_id = 't${i}'`,
  (i: number) => `insert into phone_numbers (tenant_id, phone_number_id, number_status) values ('t${i}', '1', 'ok')
    on conflict (tenant_id) do update set number_status = 'pending'`,
  (i: number) => `delete from tenant_configs where tenant_id = 't${i}'`,
  () => 'savepoint one',
  () => 'rollback to savepoint one'
]

/** Runs random transactions until `stopped`. A deadlock or a missing savepoint ends one, as a rollback does. */
async function writeUntil (url: string, stopped: AbortSignal, last: string): Promise<number> {
  const client = new pg.Client(url)
  await client.connect()
  const pick = (below: number) => Math.floor(Math.random() * below)
  let committed = 0
  while (!stopped.aborted) {
    await client.query('begin')
    try {
      for (let n = pick(5); n >= 0; n--) await client.query(writes[pick(writes.length)]?.(pick(50)) ?? '')
      if (pick(20) === 0) await client.query(last)
      await client.query(pick(4) === 0 ? 'rollback' : 'commit')
      committed++
    } catch {
      await client.query('rollback')
    }
  }
  await client.end()
  return committed
}

async function loopUntil (stopped: AbortSignal, work: () => Promise<unknown>): Promise<void> {
  while (!stopped.aborted) await work()
}

async function assertExactUnderLoad (t: Test, last: string): Promise<void> {
  const { url, run, assertExact } = await countedDatabase(t)
  const [folder, other, corrector] = await Promise.all([1, 2, 3].map(async () => await connect(t, url)))
  const stopped = new AbortController()
  const work = Promise.all([
    ...[1, 2, 3].map(async () => await writeUntil(url, stopped.signal, last)),
    loopUntil(stopped.signal, async () => await folder?.query('select config_counts_fold(7)')),
    loopUntil(stopped.signal, async () => await other?.query('select config_counts_fold(5000)')),
    loopUntil(stopped.signal, async () => {
      const wrong = await corrector?.query('select config_counts_recount() as wrong')
      t.same(wrong?.rows, [{ wrong: 0 }], 'a recount beside the writers corrects nothing')
      await delay(50)
    })
  ])
  const ends = Date.now() + 4000
  while (Date.now() < ends) await assertExact('at any moment')
  stopped.abort()
  const committed = (await work).filter((count) => count !== undefined)
  t.ok(committed.every((count) => count > 0), `transactions: ${committed.join(', ')}`)
  await assertExact('at the end')
  await run('select config_counts_fold(1000000)')
  await assertExact('all folded')
  t.same(await run('select from config_counts where count = 0'), [], 'no count of 0 stays')
}

await t.test('the statistics are exact at any moment beside writers, folders and a recount', async (t) => {
  await assertExactUnderLoad(t, 'select 1')
})

await t.test('so they are beside TRUNCATE', async (t) => {
  await assertExactUnderLoad(t, 'truncate tenant_configs')
})

await t.test('two recounts at once correct a difference once', async (t) => {
  const { url, client, run, assertExact } = await countedDatabase(t)
  await run("insert into tenant_configs (tenant_id) values ('a'), ('b')")
  await run("delete from config_count_changes where name = 'total'")
  const first = await connect(t, url)
  await first.query('begin; select config_counts_recount()')
  const second = client.query('select config_counts_recount() as wrong')
  await untilWaiting(url, 1)
  await first.query('commit')
  t.same((await second).rows, [{ wrong: 0 }])
  t.match(await assertExact('after both'), { total: 2 })
})

await t.test('a recount beside an open transaction counts it once it commits', async (t) => {
  const { url, run, assertExact } = await countedDatabase(t)
  const writer = await connect(t, url)
  await run("insert into tenant_configs (tenant_id) values ('a')")
  await run('delete from config_count_changes')
  await writer.query(`begin;
    insert into tenant_configs (tenant_id) values ('b');
    update tenant_configs set is_active = false`)
  t.match(await run('select config_counts_recount() as wrong'), [{ wrong: 3 }])
  t.match(await assertExact('before the commit'), { total: 1, active: 1 })
  await writer.query('commit')
  t.match(await assertExact('after the commit'), { total: 2, active: 0 })
})
