import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import { onboardingService } from '../fixtures/onboarding.js'
import { until } from '../helper.js'
import { app } from '../plugins/meta-wire.js'
import { config, onboard, type Answer } from './client.js'

const service = await onboardingService(t)
const { meta, as, call, login, newTenant, asked, waba, post, instance } = service
const REDIRECT = { redirect_uri: 'https://a.example' }

/** A tenant with a token that asks Meta. */
const tenantWithToken = async () => await service.existing({ waba_id: waba.id, access_token: meta.state.issueToken({ app_id: app.id }) })

/** The requests that stand in the queue of a tenant. */
const kinds: Record<string, (tenant: string) => Promise<Answer>> = {
  onboarding: async (tenant) => await call(as(tenant), 'POST', onboard, login(tenant)),
  resume: async (tenant) => await call(as(tenant), 'POST', `${onboard}/resume`),
  start: async (tenant) => await call(as(tenant), 'POST', `${onboard}/start`, REDIRECT),
  verify: async (tenant) => await call(as(tenant), 'POST', `${config}/verify`),
  'a dry run': async (tenant) => await call(as(tenant), 'POST', `${config}/verify`, { waba_id: '1' }),
  leave: async (tenant) => await call(as(tenant), 'DELETE', `${config}?unsubscribe=true`)
}
const isRefused = ({ is }: Answer) => is === '429 RATE_LIMITED'

/** Has 5 dry runs of each tenant wait for Meta, for longer than it takes to send all else; returns them. */
async function fill (tenants: string[]) {
  meta.requests.length = 0
  meta.fail('debug_token', { latency_ms: 8000, times: 5 * tenants.length })
  const running = tenants.flatMap((tenant) => Array.from({ length: 5 }, async () => await kinds['a dry run']?.(tenant)))
  await until(() => asked('debug_token').length === 5 * tenants.length)
  return running
}

await t.test('of each kind of request 50 wait while 5 run, and no more', async (t) => {
  const all = await Promise.all(Object.entries(kinds).map(async ([name, ask]) => ({ name, ask, tenant: await tenantWithToken() })))
  const running = await fill(all.map(({ tenant }) => tenant))
  const waiting = all.map(({ ask, tenant }) => Array.from({ length: 50 }, async () => await ask(tenant)))
  await delay(1000)
  for (const { name, ask, tenant } of all) {
    t.match(await ask(tenant), { is: '429 RATE_LIMITED', headers: { 'retry-after': '5' }, body: { detail: /retry-after/ } }, name)
  }
  await Promise.all(running)
  for (const answers of waiting) t.equal((await Promise.all(answers)).filter(isRefused).length, 0)
})

await t.test('all kinds share one queue', async (t) => {
  const tenant = await tenantWithToken()
  const running = await fill([tenant])
  const asks = Object.values(kinds)
  const waiting = Array.from({ length: 50 }, async (_, i) => await asks[i % asks.length]?.(tenant))
  // Those with a body come after those without.
  await delay(1000)
  for (const answer of await Promise.all(asks.map(async (ask) => await ask(tenant)))) t.ok(isRefused(answer))
  await Promise.all([...running, ...waiting])
})

await t.test('another instance has a queue of its own, and a code posted again waits in the queue too', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  t.equal((await post(tenant, body)).is, '201')
  const other = await instance()
  const running = await fill([tenant])
  const waiting = Array.from({ length: 50 }, async () => await kinds['resume']?.(tenant))
  await delay(1000)
  t.equal((await post(tenant, body)).is, '429 RATE_LIMITED')
  t.equal((await other.post(tenant, body)).is, '200')
  await Promise.all([...running, ...waiting])
})
