import t from '../../run/tap.js'
import { onboardingLives } from './service-processes.js'
import { query, until } from '../../helper.js'

t.setTimeout(300_000)

const { url, meta, start, customer, login, resume, full, leftovers, post, granted } = await onboardingLives(t)

await t.test('SIGTERM during 5 exchanges and 20 waiting logins stores 5 tokens and sends no other code', async (t) => {
  const life = await start()
  const first = await customer(life)
  const logins = Array.from({ length: 25 }, () => ({ ...first, body: { ...first.body, ...login(first.waba) } }))
  // Longer than ten seconds, the time a former version had for its end.
  meta.fail('access_token', { latency_ms: 11_000, times: 5 })
  const flying = logins.slice(0, 5).map(async (login) => await post(life, login))
  await until(() => meta.requests.length === 5)
  const waiting = logins.slice(5).map(async (login) => await post(life, login))
  await until(() => life.stdout().split('"msg":"incoming request"').length > 26)
  const ended = life.end('SIGTERM')
  for (const answer of waiting) t.match(await answer, { is: '503 SERVICE_CLOSING' })
  t.match(
    await query(url, 'select * from onboardings where access_token is not null'),
    [],
    'the tokens have not come yet'
  )
  for (const answer of flying) t.match(await answer, { is: '503 SERVICE_CLOSING' })
  t.equal(await ended, 0)
  t.same(meta.requests.map(({ route }) => route), Array(5).fill('access_token'), 'Meta is asked nothing more')
  t.same(await query(url, "select status, holder, held_until from onboardings where access_token like 'v1.%'"),
    Array(5).fill({ status: 'in_progress', holder: null, held_until: null }))
  t.equal((await query(url, 'select from onboardings')).length, 5)

  const next = await start()
  t.match(await resume(next, first), { is: '200' })
  t.ok(granted(first).includes(String((await full(next, first))['access_token'])))
  t.match(await post(next, { ...first, body: { ...first.body, ...login(first.waba) } }), { is: '200' })
  t.same(await leftovers(first), [], 'the newest login ends the others')
  t.equal(await next.end('SIGTERM'), 0)
})
