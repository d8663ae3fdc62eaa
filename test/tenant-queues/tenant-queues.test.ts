import { setTimeout as delay } from 'node:timers/promises'
import t from '../run/tap.js'
import { RateLimited, ServiceClosing } from '../../src/errors.js'
import { createTenantQueues } from '../../src/tenant-queues/tenant-queues.js'
import { sharedController } from '../../src/waiting/wait-for.js'

/** Creates queues, and work in them that ends when `end` is called. */
function queues (timeoutMs = 60_000) {
  const closing = sharedController()
  const { run, settled } = createTenantQueues({ closing: closing.signal, timeoutMs })
  const started: string[] = []
  const ends = new Map<string, () => void>()

  return {
    closing,
    settled,
    started,
    /** Queues one piece of work. Resolves with whether it has waited. */
    ask: (
      tenant: string,
      name: string,
      client = new AbortController().signal
    ) => run(tenant, client, async (hasWaited) => {
      started.push(name)
      await new Promise<void>((resolve) => { ends.set(name, resolve) })
      return hasWaited
    }),
    end: async (...names: string[]) => {
      for (const name of names) ends.get(name)?.()
      await delay(0)
    }
  }
}

const names = (count: number, prefix = '') => Array.from({ length: count }, (_, i) => `${prefix}${i}`)
/** The reason of a rejected promise. */
const failure = async (promise: Promise<unknown>) => await promise.then(() => 'no failure', (err: unknown) => err)

await t.test('5 requests of a tenant run, 50 wait in order, and further ones are refused', async (t) => {
  const { ask, end, started } = queues()
  const results = names(55).map(async (name) => await ask('a', name))
  const [refused, other] = [failure(ask('a', '55')), ask('b', 'other')]
  t.ok(await refused instanceof RateLimited)
  t.same(started, [...names(5), 'other'], 'another tenant has its own queue')
  for (const name of names(55)) await end(name)
  await end('other')
  t.same(started, [...names(5), 'other', ...names(55).slice(5)])
  t.same(await Promise.all(results), names(55).map((_, i) => i >= 5), 'each result says whether the request has waited')
  t.equal(await other, false)
})

await t.test('the limit of a tenant still applies while 1001 other tenants run', async (t) => {
  const { ask, end, started, settled } = queues()
  const all = [...names(5, 'a'), ...names(1001, 'b')]
  const results = all.map(async (name) => await ask(name.startsWith('a') ? 'a' : name, name))
  results.push(ask('a', 'late'))
  await delay(0)
  t.notOk(started.includes('late'))
  await end(...all)
  await end('late')
  await settled()
  t.equal((await Promise.all(results)).length, 1007)
})

await t.test('a waiting client that disconnects frees its place', async (t) => {
  const { ask, end, started } = queues()
  const client = sharedController()
  const running = names(5).map(async (name) => await ask('a', name, client.signal))
  const waiting = names(50, 'w').map(async (name) => await failure(ask('a', name, client.signal)))
  client.abort(new Error('gone'))
  for (const failed of await Promise.all(waiting)) t.match(failed, { message: 'gone' })
  const next = names(50, 'n').map(async (name) => await ask('a', name))
  t.same(started, names(5), 'running work continues')
  await end(...names(5))
  t.equal((await Promise.all(running)).length, 5)
  for (const name of names(50, 'n')) await end(name)
  t.equal((await Promise.all(next)).length, 50)
})

await t.test('a place that is granted while its client disconnects goes to the next client', async (t) => {
  const { ask, end, started } = queues()
  const client = new AbortController()
  const running = names(5).map(async (name) => await ask('a', name))
  const left = failure(ask('a', 'left', client.signal))
  const next = ask('a', 'next')
  const ended = end(...names(5))
  client.abort(new Error('gone'))
  await ended
  t.match(await left, { message: 'gone' })
  await Promise.all(running)
  t.same(started, [...names(5), 'next'])
  await end('next')
  t.equal(await next, true)
})

await t.test('a client that is already disconnected gets no place and blocks no other client', async (t) => {
  const { ask, end, started } = queues()
  const running = names(5).map(async (name) => await ask('a', name))
  t.match(await failure(ask('a', 'gone', AbortSignal.abort(new Error('gone')))), { message: 'gone' })
  const next = ask('a', 'next')
  await end(...names(5))
  await Promise.all(running)
  t.same(started, [...names(5), 'next'])
  await end('next')
  t.equal(await next, true)
})

await t.test('a closing service starts no waiting work and waits for the running work', async (t) => {
  const { ask, end, started, closing, settled } = queues()
  const running = names(5).map(async (name) => await ask('a', name))
  const waiting = failure(ask('a', 'waiting'))
  closing.abort(new ServiceClosing())
  t.ok(await waiting instanceof ServiceClosing)
  t.ok(await failure(ask('b', 'late')) instanceof ServiceClosing)
  let isSettled = false
  const settling = settled().then(() => { isSettled = true })
  await end(...names(4))
  t.equal(isSettled, false)
  await end('4')
  await settling
  t.equal((await Promise.all(running)).length, 5)
  t.same(started, names(5))
})

await t.test('a wait for a place ends after the time limit of six calls with RateLimited', async (t) => {
  const { ask, end } = queues(5)
  const running = names(5).map(async (name) => await ask('a', name))
  t.ok(await failure(ask('a', 'late')) instanceof RateLimited)
  await end(...names(5))
  await Promise.all(running)
})

await t.test('failed work frees its place', async (t) => {
  const { run } = createTenantQueues({ closing: new AbortController().signal, timeoutMs: 60_000 })
  const client = new AbortController().signal
  const runs = names(12).map(async (name) => await failure(run('a', client, async () => { throw new Error(name) })))
  t.match(await Promise.all(runs), names(12).map((message) => ({ message })))
})
