import t from '../run/tap.js'
import { graphErrorDetails } from '../../src/errors.js'
import { app, callback, json, meta, pin, proof, standIn, thrownBy, token } from './wire.js'

await t.test('an id is one segment of the path, whatever it contains', async t => {
  const { graph, urls } = await meta(t, json(200, { data: [], success: true, id: '1' }))
  const ids = ['new/../id', '../../me', '?a=b', '#a', '%2e%2e', '...', 'é 1', '..\\']
  const ofWaba = [
    (id: string) => graph.listPhoneNumbers(app, token, id),
    (id: string) => graph.subscribeApp(app, token, id),
    (id: string) => graph.overrideCallback(app, token, id, callback),
    (id: string) => graph.subscriptionOf(app, token, id),
    (id: string) => graph.unsubscribeApp(app, token, id)
  ]
  const ofPhone = [
    (id: string) => graph.overridePhoneCallback(app, token, id, callback),
    (id: string) => graph.effectiveCallback(app, token, id),
    (id: string) => graph.registerNumber(app, token, id, pin)
  ]
  const ends = ['/phone_numbers', ...Array(4).fill('/subscribed_apps'), '', '', '/register']
  for (const [i, call] of [...ofWaba, ...ofPhone].entries()) {
    urls.length = 0
    for (const id of ids) await call(id)
    t.strictSame(urls.map(url => url?.split('?')[0]), ids.map(id => `/v26.0/${encodeURIComponent(id)}${ends[i]}`))
    const code = i < ofWaba.length ? 'META_WABA_NOT_ACCESSIBLE' : 'META_PHONE_NOT_IN_WABA'
    for (const id of ['', '.', '..']) {
      const err = await thrownBy(call(id))
      t.match(err, { code })
      t.match(graphErrorDetails(err), { sent: false })
    }
    t.equal(urls.length, ids.length)
  }
})

await t.test('registerNumber sends the PIN in the body only', async t => {
  const { meta, waba, graph, lines, successes } = await standIn(t)
  const token = meta.state.issueToken({ app_id: app.id })
  await graph.registerNumber(app, token, '1', pin)
  await graph.registerNumber(app, token, '1', pin)
  t.match(waba.phones[0], { id: '1', pin, registered: true })
  await t.rejects(graph.registerNumber(app, token, '1', '000000'), { code: 'META_REGISTER_REFUSED' })
  await t.rejects(graph.registerNumber(app, token, '1', '12345'), { code: 'META_REGISTER_REFUSED' })
  t.strictSame(meta.requests[0]?.headers['content-type'], 'application/json')
  t.strictSame(meta.requests[0]?.form, { messaging_product: 'whatsapp', pin })
  t.strictSame(meta.requests[0]?.query, { appsecret_proof: proof(token) })
  t.notMatch(JSON.stringify([lines, successes]), pin)
})
