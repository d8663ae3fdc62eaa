import type { Test } from 'tap'
import t from '../run/tap.js'
import { onboardingService } from '../onboarding/onboarding-service.js'
import { until } from '../helper.js'
import { app } from '../meta/wire.js'
import { config, onboard, type Answer } from '../routes/client.js'

const service = await onboardingService(t)
const { meta, as, call, login, newTenant, asked, waba, post, instance } = service
const REDIRECT = { redirect_uri: 'https://a.example' }

/** Creates a tenant with a token, whose verifications call Meta. */
const tenantWithToken = async () =>
  await service.existing({ waba_id: waba.id, access_token: meta.state.issueToken({ app_id: app.id }) })

type Ask = (tenant: string) => Promise<Answer>
/** The kinds of requests that wait in the queue of a tenant. */
const kinds = {
  onboarding: async (tenant: string) => await call(as(tenant), 'POST', onboard, login(tenant)),
  resume: async (tenant: string) => await call(as(tenant), 'POST', `${onboard}/resume`),
  start: async (tenant: string) => await call(as(tenant), 'POST', `${onboard}/start`, REDIRECT),
  verify: async (tenant: string) => await call(as(tenant), 'POST', `${config}/verify`),
  'a dry run': async (tenant: string) => await call(as(tenant), 'POST', `${config}/verify`, { waba_id: '1' }),
  leave: async (tenant: string) => await call(as(tenant), 'DELETE', `${config}?unsubscribe=true`)
}
const isRefused = ({ is }: Answer) => is === '429 RATE_LIMITED'

/** Starts 5 dry runs for each tenant, which wait for Meta longer than the test sends requests; returns them. */
async function fill (tenants: string[]) {
  meta.requests.length = 0
  meta.fail('debug_token', { latency_ms: 8000, times: 5 * tenants.length })
  const running = tenants.flatMap((tenant) => Array.from({ length: 5 }, async () => await kinds['a dry run'](tenant)))
  await until(() => asked('debug_token').length === 5 * tenants.length)
  return running
}

/** Sends 60 requests of these kinds at once; resolves with all of them once 10 are refused by the full queue. */
async function overfill (t: Test, tenant: string, asks: Ask[]): Promise<Array<Promise<Answer>>> {
  const refused: Answer[] = []
  const sent = Array.from({ length: 60 / asks.length }, () => asks).flat().map(async (ask) => {
    const answer = await ask(tenant)
    if (isRefused(answer)) refused.push(answer)
    return answer
  })
  await until(() => refused.length === 10)
  for (const answer of refused) t.match(answer, { headers: { 'retry-after': '5' }, body: { detail: /retry-after/ } })
  return sent
}

/** Asserts that 50 of the requests were not refused. */
async function assertFiftyAccepted (t: Test, sent: Array<Promise<Answer>>) {
  t.equal((await Promise.all(sent)).filter((answer) => !isRefused(answer)).length, 50)
}

await t.test('50 requests of each kind wait while 5 run, and further ones are refused', async (t) => {
  const all = await Promise.all(Object.values(kinds).map(async (ask) => ({ ask, tenant: await tenantWithToken() })))
  const running = await fill(all.map(({ tenant }) => tenant))
  const sent = await Promise.all(all.map(async ({ ask, tenant }) => await overfill(t, tenant, [ask])))
  await Promise.all(running)
  for (const ofKind of sent) await assertFiftyAccepted(t, ofKind)
})

await t.test('all kinds of requests of a tenant share one queue', async (t) => {
  const tenant = await tenantWithToken()
  const running = await fill([tenant])
  const sent = await overfill(t, tenant, Object.values(kinds))
  await Promise.all(running)
  await assertFiftyAccepted(t, sent)
})

await t.test('a replay is refused by a full queue, and another instance has its own queue', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  t.equal((await post(tenant, body)).is, '201')
  const other = await instance()
  const running = await fill([tenant])
  const sent = await overfill(t, tenant, [kinds.resume])
  t.equal((await post(tenant, body)).is, '429 RATE_LIMITED')
  t.equal((await other.post(tenant, body)).is, '200')
  await Promise.all([...running, ...sent])
})
