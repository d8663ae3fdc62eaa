import t from '../../run/tap.js'
import { query, until } from '../../helper.js'
import { serviceProcesses } from './service-processes.js'

t.setTimeout(300_000)

const {
  url, meta, start, customer, login, resume, full, leftovers, post, granted, hasReceived
} = await serviceProcesses(t)

await t.test('SIGTERM during 5 exchanges and 20 waiting logins stores 5 tokens and sends no other code', async (t) => {
  const service = await start()
  const first = await customer(service)
  const logins = Array.from({ length: 25 }, () => ({ ...first, body: { ...first.body, ...login(first.waba) } }))
  // A former version ended its process 10 seconds after SIGTERM.
  meta.fail('access_token', { latency_ms: 11_000, times: 5 })
  const running = logins.slice(0, 5).map(async (login) => await post(service, login))
  await until(() => meta.requests.length === 5)
  const waiting = logins.slice(5).map(async (login) => await post(service, login))
  await until(() => hasReceived(service, 26))
  const ended = service.end('SIGTERM')
  for (const answer of waiting) t.match(await answer, { is: '503 SERVICE_CLOSING' })
  t.match(await query(url, 'select * from onboardings where access_token is not null'), [], 'no token has arrived yet')
  for (const answer of running) t.match(await answer, { is: '503 SERVICE_CLOSING' })
  t.equal(await ended, 0)
  t.same(meta.requests.map(({ route }) => route), Array(5).fill('access_token'), 'Meta gets no other call')
  t.same(await query(url, "select status, holder, held_until from onboardings where access_token like 'v2.%'"),
    Array(5).fill({ status: 'in_progress', holder: null, held_until: null }))
  t.equal((await query(url, 'select from onboardings')).length, 5)

  const next = await start()
  t.match(await resume(next, first), { is: '200' })
  t.ok(granted(first).includes(String((await full(next, first))['access_token'])))
  t.match(await post(next, { ...first, body: { ...first.body, ...login(first.waba) } }), { is: '200' })
  t.same(await leftovers(first), [], 'the newest login ends the others')
  t.equal(await next.end('SIGTERM'), 0)
})
