import { once } from 'node:events'
import { createServer } from 'node:http'
import t from '../../run/tap.js'
import { checkClock } from '../../../src/cli/doctor/meta.js'
import { createAppInfo, type AnswerHead } from '../../../src/meta/apps/app-info.js'
import { startGraph } from '../../graph/server.js'

const head = (min: number, max: number): AnswerHead => ({ status: 200, servedVersion: null, clockOffset: { min, max } })

await t.test('the clock may be 30 s away, and the round trip counts in its favour', async (t) => {
  for (const [min, max, found] of [
    [-500, 500, 'ok'], [30_000, 31_000, 'ok'], [-31_000, -30_000, 'ok'], [25_000, 90_000, 'ok'],
    [-90_000, 90_000, 'ok'], [30_001, 31_001, 'failed'], [-31_001, -30_001, 'failed']
  ] as const) t.equal(checkClock(head(min, max)).status, found, `${min} to ${max}`)
  t.match(checkClock(head(61_000, 62_000)).detail, /61 s behind/)
  t.match(checkClock(head(-62_000, -61_000)).detail, /61 s ahead/)
})

await t.test('the bounds of the offset contain the true one, also of a late answer', async (t) => {
  const graph = await startGraph()
  t.teardown(graph.close)
  const options = { baseUrl: graph.url, version: 'v26.0', timeoutMs: 10_000, fetch }
  const app = graph.state.addApp({ require_proof: true })
  const info = createAppInfo(options)
  graph.fail('app', { latency_ms: 300 })
  for (let i = 0; i < 2; i++) {
    const answer = await info.confirmApp({ id: app.app_id, secret: app.app_secret })
    if (answer.outcome !== 'ok' || answer.head.clockOffset === null) throw new Error('no answer')
    t.equal(answer.value.id, app.app_id)
    const { min, max } = answer.head.clockOffset
    t.ok(min <= 0 && max >= 0, `${min} to ${max}`)
    t.ok(max - min >= (i === 0 ? 1290 : 1000), `${min} to ${max}`)
  }
  t.match(graph.requests, [1, 2].map(() => ({
    method: 'GET',
    path: `/v26.0/${app.app_id}`,
    headers: { authorization: `Bearer ${app.app_id}|${app.app_secret}` },
    query: { fields: 'id', appsecret_proof: /^[0-9a-f]{64}$/ }
  })))
})

await t.test('an answer without date and version is read', async (t) => {
  const server = createServer((_req, res) => {
    res.sendDate = false
    res.end('{}')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    server.closeAllConnections()
  })
  const address = server.address()
  const baseUrl = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`
  const answer = await createAppInfo({ baseUrl, version: 'v26.0', timeoutMs: 10_000, fetch }).probe()
  t.same(answer, { outcome: 'ok', head: { status: 200, servedVersion: null, clockOffset: null }, value: {} })
})
