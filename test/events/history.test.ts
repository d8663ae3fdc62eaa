import { randomUUID } from 'node:crypto'
import t from '../run/tap.js'
import { toQueryConfig } from '../../src/database/statement.js'
import { listQuery } from '../../src/events/history.sql.js'
import { base, client } from '../routes/client.js'
import { connect, untilWaiting } from '../helper.js'

const { admin, as, call, databaseUrl, sql } = await client(t)
const events = `${base}/admin/events`

/** Inserts an event; those without a state wait. Several have the same `at`. */
async function put (tenant: string, at: string, state?: 'delivered' | 'ended'): Promise<string> {
  const values = "'token.revoked', $1, 'ok', 'revoked', 'canary-reason', $2, 3, 503"
  const columns = 'type, tenant_id, "from", "to", reason, at, attempts, last_status'
  const [row] = state === undefined
    ? await sql(`insert into events_outbox (${columns}, next_attempt_at)
        values (${values}, '2030-01-01Z') returning id`, [tenant, at])
    : await sql(`insert into events_ended (${columns}, state) values (${values}, $3) returning id`, [tenant, at, state])
  return String(row?.['id'])
}

/** The ids of all pages. */
async function ids (query = ''): Promise<unknown[]> {
  const found: unknown[] = []
  for (let cursor = ''; ;) {
    const { is, body: { events: page, next_cursor: next } } = await call(admin, 'GET', `${events}?${query}${cursor}`)
    if (is !== '200' || !Array.isArray(page)) return [is]
    found.push(...page.map(({ id }) => id))
    if (typeof next !== 'string') return next === null ? found : ['no next_cursor']
    cursor = `&cursor=${next}`
  }
}

const redeliver = async (id: string) => await call(admin, 'POST', `${events}/${id}/redeliver`)
const tables = async (id: string) => await sql(`
  select 'outbox' as is_in, attempts, refusals, next_attempt_at <= now() as is_due from events_outbox where id = $1
  union all select 'ended', attempts, null, null from events_ended where id = $1`, [id])

await t.test('without events the list is empty', async (t) => {
  t.strictSame((await call(admin, 'GET', events)).body, { events: [], next_cursor: null })
})

await t.test('the list has the events of both tables, the newest first, for any page size and filter', async (t) => {
  const inserted: { id: string, at: string, tenant: string, state: string }[] = []
  for (const [tenant, day, state] of [
    ['a', 1, 'delivered'], ['b', 1, 'ended'], ['a', 1], ['a', 1], ['a%', 1, 'delivered'], ['ab', 2, 'ended'],
    ['a', 2, 'ended'], ['b', 3], ['a', 3, 'delivered'], ['a', 4], ['😀', 4, 'delivered']
  ] as const) {
    const at = `2026-11-0${day}T12:00:00.00000${day}Z`
    inserted.push({ id: await put(tenant, at, state), at, tenant, state: state ?? 'waiting' })
  }
  const keyOf = ({ at, id }: { at: string, id: string }) => `${at} ${id}`
  inserted.sort((a, b) => keyOf(a) < keyOf(b) ? 1 : -1)
  for (const limit of [1, 2, 3, 10, 11, 200]) t.strictSame(await ids(`limit=${limit}`), inserted.map(({ id }) => id))
  for (const state of ['waiting', 'delivered', 'ended']) {
    const expected = inserted.filter((event) => event.state === state)
    t.strictSame(await ids(`limit=2&state=${state}`), expected.map(({ id }) => id))
    const ofA = expected.filter(({ tenant }) => tenant === 'a').map(({ id }) => id)
    t.strictSame(await ids(`limit=1&state=${state}&tenant_id=a`), ofA)
  }
  for (const tenant of ['a', 'b', 'ab', 'a%', '😀', 'A', 'nobody']) {
    const expected = inserted.filter((event) => event.tenant === tenant).map(({ id }) => id)
    t.strictSame(await ids(`limit=2&tenant_id=${encodeURIComponent(tenant)}`), expected, tenant)
  }

  const { body } = await call(admin, 'GET', `${events}?limit=3`)
  t.match(body.events, [{}, {}, {}])
  const page = Array.isArray(body.events) ? body.events : []
  for (const [index, { id, tenant, state, at }] of inserted.slice(0, 3).entries()) {
    t.strictSame(page[index], {
      id,
      type: 'token.revoked',
      tenant_id: tenant,
      at,
      state,
      attempts: 3,
      next_attempt_at: state === 'waiting' ? '2030-01-01T00:00:00.000000Z' : null,
      last_status: 503
    })
  }
  await sql('truncate events_outbox, events_ended')
})

await t.test('a page has 50 events by default', async (t) => {
  await sql(`insert into events_ended (type, tenant_id, "from", "to", at, state)
    select 't', 'many', 'a', 'b', now() - i * interval '1 second', 'ended' from generate_series(1, 120) i`)
  t.match((await call(admin, 'GET', events)).body, { events: { length: 50 }, next_cursor: String })
  t.match((await call(admin, 'GET', `${events}?limit=200`)).body, { events: { length: 120 }, next_cursor: null })
  t.equal(new Set(await ids()).size, 120)
  await sql('truncate events_ended')
})

await t.test('a query with an invalid or unknown parameter is refused', async (t) => {
  for (const query of [
    'limit=0', 'limit=201', 'limit=x', 'limit=', 'state=', 'state=lost', 'state=waiting,ended',
    'state=ended&state=ended', 'tenant_id=', 'tenant_id=%00', 'tenant_id=a&tenant_id=b',
    `tenant_id=${'a'.repeat(101)}`, 'type=token.revoked', 'id=1'
  ]) t.equal((await call(admin, 'GET', `${events}?${query}`)).is, '400 VALIDATION_FAILED', query)
  const id = randomUUID()
  const cursorOf = (text: string) => Buffer.from(text).toString('base64url')
  const cursor = cursorOf(`2026-11-23T12:00:00.000001Z ${id}`)
  t.equal((await call(admin, 'GET', `${events}?cursor=${cursor}`)).is, '200')
  for (const wrong of [
    '', 'x', `${cursor}=`, ` ${cursor}`, cursor.slice(1), cursorOf(id), cursorOf('2026-11-23T12:00:00.000001Z'),
    ...['2026-11-23', '2026-11-23T12:00:00Z', '2026-02-30T12:00:00.000000Z', '2026-13-01T00:00:00.000000Z',
      '2026-11-23T24:00:00.000000Z', '2026-11-23T12:00:60.000000Z', '0000-01-01T00:00:00.000000Z', 'infinity',
      '+2026-11-23T12:00:00.00000Z', '2026-11-23 12:00:00.000000Z'].map((at) => cursorOf(`${at} ${id}`)),
    ...[id.toUpperCase().replace(/^./, 'A'), `${id}0`, 'x', '', `${id} `].map((wrongId) =>
      cursorOf(`2026-11-23T12:00:00.000000Z ${wrongId}`))
  ]) {
    const { is } = await call(admin, 'GET', `${events}?cursor=${encodeURIComponent(wrong)}`)
    t.equal(is, '400 INVALID_CURSOR', Buffer.from(wrong, 'base64url').toString())
  }
})

await t.test('a cursor stays valid after the last event of its page is gone', async (t) => {
  const [old, young] = [await put('a', '2026-11-01Z', 'ended'), await put('a', '2026-11-02Z', 'ended')]
  const { body: { next_cursor: next } } = await call(admin, 'GET', `${events}?limit=1`)
  await sql('delete from events_ended where id = $1', [young])
  t.match((await call(admin, 'GET', `${events}?limit=1&cursor=${String(next)}`)).body, { events: [{ id: old }] })
  await sql('truncate events_ended')
})

await t.test('an ended or delivered event waits again, due now and without attempts', async (t) => {
  for (const state of ['ended', 'delivered'] as const) {
    const id = await put('acme', '2026-11-23T12:00:00.000001Z', state)
    const { is, body } = await redeliver(state === 'ended' ? id : id.toUpperCase())
    t.match([is, body], ['200', {
      id,
      type: 'token.revoked',
      at: '2026-11-23T12:00:00.000001Z',
      state: 'waiting',
      attempts: 0,
      next_attempt_at: /^\d{4}-\d\d-\d\dT/,
      last_status: 503
    }])
    t.strictSame((await call(admin, 'GET', events)).body.events, [body], 'the answer is as in the list')
    t.strictSame(await tables(id), [{ is_in: 'outbox', attempts: 0, refusals: 0, is_due: true }])
    t.match(
      await sql('select "from", "to", reason from events_outbox'),
      [{ from: 'ok', to: 'revoked', reason: 'canary-reason' }]
    )
    await sql('truncate events_outbox')
  }
})

await t.test('a waiting event is due, and so are the postponed events of its tenant', async (t) => {
  const [first, second, other] = [
    await put('acme', '2026-11-01Z'), await put('acme', '2026-11-02Z'), await put('other', '2026-11-01Z')
  ]
  await sql('update events_outbox set refusals = 4')
  t.match(await redeliver(second), { is: '200', body: { id: second, state: 'waiting', attempts: 0 } })
  t.strictSame(await tables(second), [{ is_in: 'outbox', attempts: 0, refusals: 0, is_due: true }])
  t.strictSame(await tables(first), [{ is_in: 'outbox', attempts: 3, refusals: 4, is_due: true }])
  t.strictSame(await tables(other), [{ is_in: 'outbox', attempts: 3, refusals: 4, is_due: false }])
  await sql('truncate events_outbox')
})

await t.test('an unknown event is not found; an id that is none, a body or a tenant is refused', async (t) => {
  t.equal((await redeliver(randomUUID())).is, '404 EVENT_NOT_FOUND')
  for (const id of ['x', '1', `${randomUUID()}0`, '%00', randomUUID().replaceAll('-', '')]) {
    t.equal((await redeliver(id)).is, '400 VALIDATION_FAILED', id)
  }
  const url = `${events}/${randomUUID()}/redeliver`
  t.equal((await call(admin, 'POST', url, { now: true })).is, '400 VALIDATION_FAILED')
  t.equal((await call(as('acme'), 'POST', url)).is, '403 FORBIDDEN')
  t.equal((await call(as('acme'), 'GET', events)).is, '403 FORBIDDEN')
  t.equal((await call({}, 'GET', events)).is, '401 UNAUTHENTICATED')
})

await t.test('100 concurrent redeliveries of an event leave one row', async (t) => {
  const id = await put('acme', '2026-11-23Z', 'ended')
  await put('acme', '2026-11-22Z')
  await put('acme', '2026-11-24Z')
  const answers = await Promise.all(Array.from({ length: 100 }, async () => await redeliver(id)))
  t.strictSame(new Set(answers.map(({ is }) => is)), new Set(['200']))
  t.strictSame(await tables(id), [{ is_in: 'outbox', attempts: 0, refusals: 0, is_due: true }])
  await sql('truncate events_outbox')
})

await t.test('an event that moves during its redelivery is found where it moved to', async (t) => {
  const id = await put('acme', '2026-11-23Z')
  const dispatcher = await connect(t, databaseUrl)
  await dispatcher.query('begin')
  await dispatcher.query(`with removed as (delete from events_outbox returning *)
    insert into events_ended (id, type, tenant_id, "from", "to", at, state)
    select id, type, tenant_id, "from", "to", at, 'delivered' from removed`)
  const answer = redeliver(id)
  await untilWaiting(databaseUrl, 1)
  await dispatcher.query('commit')
  t.match(await answer, { is: '200', body: { id, state: 'waiting', attempts: 0 } })
  t.match(await tables(id), [{ is_in: 'outbox' }])
  await sql('truncate events_outbox')
})

await t.test('a page reads no more rows than it has, from indexes, of many events', async (t) => {
  await sql(`insert into events_outbox (type, tenant_id, "from", "to", at)
    select 't', 't' || i % 5000, 'a', 'b', now() - i * interval '1 second' from generate_series(1, 50000) i`)
  await sql(`insert into events_ended (type, tenant_id, "from", "to", at, state)
    select 't', 't' || i % 5000, 'a', 'b', now() - i * interval '1 second',
      case when i % 10000 = 7 then 'ended' else 'delivered' end from generate_series(1, 50000) i`)
  await sql('vacuum analyze events_outbox, events_ended')
  const before = { at: new Date(Date.now() - 4e6).toISOString(), id: randomUUID() }
  for (const filters of [
    {}, { state: 'waiting' }, { state: 'ended' }, { state: 'delivered' }, { tenant_id: 't7' },
    { tenant_id: 't7', state: 'ended' }, { tenant_id: 'nobody' }
  ] as const) {
    for (const place of [undefined, before]) {
      const { text, values } = toQueryConfig(listQuery({ ...filters, before: place, limit: 51 }))
      const rows = await sql(`explain (analyze, costs off, timing off) ${text}`, values)
      const plan = rows.map((row) => row['QUERY PLAN']).join('\n')
      t.notMatch(plan, /Seq Scan|Rows Removed/, JSON.stringify(filters))
      const read = [...plan.matchAll(/actual rows=([\d.]+)/g)].map(([, count]) => Number(count))
      t.ok(read.length > 1 && Math.max(...read) <= 51, 'no node reads more rows than the page has')
    }
  }
})
