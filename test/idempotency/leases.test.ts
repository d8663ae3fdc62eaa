import type { Test } from 'tap'
import t from '../run/tap.js'
import { connect, makeUnreachable, until, untilWaiting } from '../helper.js'
import { config, full, onboard, type Answer } from '../routes/client.js'
import { essence, idempotencyService, isReplay, newKey, resume, sendTo } from './idempotency-service.js'

const service = await idempotencyService(t)
const {
  as, send, sql, keys, meta, asked, login, newTenant, row, rows, log, databaseUrl, startWithMetaFault, withoutTable,
  expireLeases, untilReleased
} = service
const other = await service.instance()
const sendToOther = sendTo(other)
const REUSED = '422 IDEMPOTENCY_KEY_REUSED'
const IN_PROGRESS = '409 IDEMPOTENCY_IN_PROGRESS'
const address = await service.app.listen({ port: 0, host: '127.0.0.1' })

/** Blocks the inserts of configurations; returns a function that lets them go on. */
async function blockCreates (t: Test) {
  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query('begin; lock table tenant_configs in share mode')
  return async () => { await lockHolder.query('commit') }
}

/** Sends a request over a connection that the client closes; resolves once it is closed. */
function leave (tenant: string, key: string, url: string, body: object) {
  const client = new AbortController()
  const answer = fetch(address + url, {
    method: 'POST',
    headers: { ...as(tenant), 'idempotency-key': key, 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: client.signal
  }).catch(() => null)
  return async () => {
    client.abort()
    await answer
  }
}

await t.test('of 40 equal creates through two instances one is executed', async (t) => {
  const [tenant, key] = [newTenant(), newKey()]
  const answers = await Promise.all(Array.from({ length: 40 }, async (_, i) =>
    await (i % 2 ? send : sendToOther)(tenant, key, config, full)))
  const executed = answers.filter((answer) => answer.is === '201' && !isReplay(answer))
  t.equal(executed.length, 1)
  for (const answer of answers) {
    if (isReplay(answer)) t.same(essence(answer), essence(executed[0] ?? answer))
    else if (answer !== executed[0]) t.match(answer, { is: IN_PROGRESS, headers: { 'retry-after': '5' } })
  }
  t.equal((await rows()).filter(({ tenant_id: id }) => id === tenant).length, 1)
})

await t.test('while an onboarding is under way, its repetition waits nowhere, on any instance', async (t) => {
  const [tenant, key] = [newTenant(), newKey()]
  const body = login(tenant)
  const { answer } = await startWithMetaFault('phone_numbers', { latency_ms: 1200 }, async () =>
    await send(tenant, key, onboard, body))
  const began = performance.now()
  const repeated = await Promise.all([send, sendToOther, send, sendToOther].map(async (send) =>
    await send(tenant, key, onboard, body)))
  t.same(repeated.map(({ is }) => is), Array(4).fill(IN_PROGRESS))
  t.equal((await sendToOther(tenant, key, onboard, { ...body, pin: '190285' })).is, REUSED)
  t.ok(performance.now() - began < 1200)
  const first = await answer
  t.equal(first.is, '201')
  for (const send of [service.send, sendToOther]) {
    const again = await send(tenant, key, onboard, body)
    t.same(essence(again), essence(first))
    t.ok(isReplay(again))
  }
  t.equal(asked('access_token').length, 1)
})

await t.test('a request takes over from one whose process died, and only with the same body', async (t) => {
  const [tenant, key] = [newTenant(), newKey()]
  const body = login(tenant)
  const { answer } = await startWithMetaFault('phone_numbers', { latency_ms: 1200 }, async () =>
    await send(tenant, key, onboard, body))
  await expireLeases(tenant)
  t.equal((await sendToOther(tenant, key, onboard, { ...body, pin: '190285' })).is, REUSED)
  const second = await sendToOther(tenant, key, onboard, body)
  t.equal(second.is, '200', 'it waits for the onboarding')
  const first = await answer
  t.equal(first.is, '201', 'a process that was only paused still answers')
  t.same(essence(await send(tenant, key, onboard, body)), essence(second), 'and does not replace the stored answer')
  t.equal(asked('access_token').length, 1)
})

await t.test('a create whose lease another request took over stores nothing', async (t) => {
  const [tenant, key] = [newTenant(), newKey()]
  const unblock = await blockCreates(t)
  const answer = send(tenant, key, config, full)
  await untilWaiting(databaseUrl, 1)
  await sql('update idempotency_keys set lease_owner = gen_random_uuid() where tenant_id = $1', [tenant])
  await unblock()
  const refused = await answer
  t.equal(refused.is, IN_PROGRESS)
  t.notOk('location' in refused.headers)
  t.equal(await row(tenant), undefined)
  t.match(await keys(tenant), [{ answer: null }])
  await expireLeases(tenant)
  t.equal((await sendToOther(tenant, key, config, full)).is, '201')
})

await t.test('a create stores row and answer together, or neither', async (t) => {
  const [tenant, key] = [newTenant(), newKey()]
  await sql(`create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
    create trigger refuse before update of answer on idempotency_keys for each row when (new.answer is not null)
      execute function refuse()`)
  t.equal((await send(tenant, key, config, full)).is, '500 INTERNAL')
  t.equal(await row(tenant), undefined)
  await sql('drop function refuse cascade')
  t.equal((await send(tenant, key, config, full)).is, '201', 'the same request executes again')

  const again = newTenant()
  await sql(`create sequence meetings;
    create function meet() returns trigger language plpgsql security definer as $$ begin
    if nextval('meetings') = 1 then raise sqlstate '40P01'; end if; return new; end $$;
    create trigger meet before update of answer on idempotency_keys for each row when (new.answer is not null)
      execute function meet()`)
  const first = await send(again, key, config, full)
  t.equal(first.is, '201', 'after a deadlock')
  t.same(essence(await send(again, key, config, full)), essence(first))
  await sql('drop function meet cascade; drop sequence meetings')
})

await t.test('with the database away nothing is executed, and the key stays new', async (t) => {
  const [tenant, key] = [newTenant(), newKey()]
  const body = login(tenant)
  const restore = await makeUnreachable(databaseUrl)
  const answers: Answer[] = []
  for (const [url, sent] of [[config, full], [onboard, body], [resume, {}]] as const) {
    answers.push(await send(tenant, key, url, sent))
  }
  await restore()
  t.same(answers.map(({ is }) => is), Array(3).fill('503 DATABASE_UNAVAILABLE'))
  t.equal(asked().length, 0)
  t.equal((await send(tenant, key, onboard, body)).is, '201')
})

await t.test('an answer that cannot be stored leaves all the same', async (t) => {
  const [tenant, key] = [newTenant(), newKey()]
  const body = login(tenant)
  const { answer } = await startWithMetaFault('subscribe', { latency_ms: 700 }, async () =>
    await send(tenant, key, onboard, body))
  await withoutTable('idempotency_keys', async () => { t.equal((await answer).is, '201') })
  t.match(log(), /"level":40[^\n]*"tenant_id":"[^\n]*an idempotency key was not settled/)
  t.equal((await send(tenant, key, onboard, body)).is, IN_PROGRESS)
  await expireLeases(tenant)
  t.equal((await send(tenant, key, onboard, body)).is, '200', 'the onboarding is completed')
  t.ok(isReplay(await send(tenant, key, onboard, body)))
})

await t.test('a 503 does not wait for the end of the lease: the database may be away', async (t) => {
  const [tenant, key] = [newTenant(), newKey()]
  const unblock = await blockCreates(t)
  const answer = send(tenant, key, config, full)
  await untilWaiting(databaseUrl, 1)
  const lockHolder = await connect(t, databaseUrl)
  await lockHolder.query('begin')
  await lockHolder.query('select from idempotency_keys where tenant_id = $1 for update', [tenant])
  t.equal((await answer).is, '503 DATABASE_UNAVAILABLE', 'after the timeout of the insert')
  await untilWaiting(databaseUrl, 1)
  await lockHolder.query('rollback')
  await unblock()
  await untilReleased(tenant)
  t.equal(await row(tenant), undefined)
  t.equal((await send(tenant, key, config, full)).is, '201')
})

await t.test('a client that leaves gets the outcome when it comes back', async (t) => {
  const [tenant, key] = [newTenant(), newKey()]
  const body = login(tenant)
  const { answer: abort } = await startWithMetaFault('phone_numbers', { latency_ms: 1000 }, async () =>
    leave(tenant, key, onboard, body))
  await (await abort)()
  await untilReleased(tenant)
  t.match(await keys(tenant), [{ answer: null }], 'its own departure is not the answer')
  const again = await send(tenant, key, onboard, body)
  t.equal(again.is, '200')
  t.same(essence(await send(tenant, key, onboard, body)), essence(again))
  t.equal(asked('access_token').length, 1)

  const creator = newTenant()
  const unblock = await blockCreates(t)
  const abortCreate = leave(creator, key, config, full)
  await untilWaiting(databaseUrl, 1)
  await abortCreate()
  await unblock()
  await until(async () => (await keys(creator))[0]?.['answer'] !== null)
  const created = await send(creator, key, config, full)
  t.equal(created.is, '201')
  t.ok(isReplay(created))
})

await t.test('a full queue is no answer to keep', async (t) => {
  const [tenant, key] = [newTenant(), newKey()]
  meta.fail('debug_token', { latency_ms: 2500, times: 5 })
  let isFull = false
  const running = Array.from({ length: 56 }, async () => {
    const { is } = await service.configure(tenant, 'POST', { access_token: 'EAAG1' }, '/verify')
    isFull ||= is === '429 RATE_LIMITED'
  })
  await until(() => isFull)
  t.equal((await send(tenant, key, resume, {})).is, '429 RATE_LIMITED')
  await Promise.all(running)
  t.equal((await send(tenant, key, resume, {})).is, '404 ONBOARDING_NOT_FOUND', 'it is executed now')
})
