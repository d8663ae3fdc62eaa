import t from '../../run/tap.js'
import { until } from '../../helper.js'
import { retriesService } from './retries-service.js'

const service = await retriesService(t)
const {
  meta, post, resume, record, issue, newTenant, newWaba, asked, records, row, eventsOf, makeDue, instance
} = service
const other = await instance()
const others: unknown[] = []
other.app.events.onEvent(({ type, tenant_id: id }) => { others.push([type, id]) })

await t.test('100 resumptions and replays at once, and the retries of two processes, have one outcome', async (t) => {
  for (const first of ['requests', 'retry']) {
    const account = newWaba(1)
    const tenant = newTenant()
    const body = { code: issue({ waba_ids: [account.id] }), waba_id: account.id }
    meta.fail('subscribe', { drop: true })
    t.equal((await post(tenant, body)).is, '503 META_UNAVAILABLE')
    meta.requests.length = 0
    // Longer than the time between two polls: both processes look for due records meanwhile.
    meta.fail('subscribe', { latency_ms: 6000 })
    await makeDue(tenant)
    if (first === 'retry') await until(() => asked('subscribe').length === 1)
    const answers = await Promise.all(Array.from({ length: 100 }, async (_, i) => {
      const from = i % 2 ? service : other
      return await (i % 4 < 2 ? from.resume(tenant) : from.post(tenant, body))
    }))
    const allowed = ['200', '201', '429 RATE_LIMITED']
    t.same(answers.map(({ is }) => is).filter((is) => !allowed.includes(is)), [], first)
    t.ok(answers.filter(({ is }) => is !== '429 RATE_LIMITED').length >= 2)
    t.same(asked().map(({ route }) => route), ['subscribe', 'debug_token'], 'no step was done twice')
    t.match(await records(tenant), [{ status: 'completed', access_token: null, holder: null, retry_at: null }])
    t.match(await row(tenant), { onboarding_completed: true })
    await until(() => eventsOf(tenant).length + others.filter((each) => String(each).includes(tenant)).length > 0)
    const completed = [...eventsOf(tenant).map(([type]) => [type, tenant]), ...others]
      .filter((each) => String(each) === `onboarding.completed,${tenant}`)
    t.equal(completed.length, 1, 'one event')
    t.equal((await resume(tenant)).is, '200')
    t.match((await record(tenant)).body, { status: 'completed' })
  }
})
