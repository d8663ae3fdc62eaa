import t from '../run/tap.js'
import { app, code, drop, json, meta, raw, refused, token } from './wire.js'

await t.test('the log line of a failure contains the call and the identifiers of Meta\'s reply', async t => {
  const { graph, lines } = await meta(t, refused(400, 190, 463))
  await t.rejects(graph.listPhoneNumbers(app, token, '1'))
  t.match(
    lines,
    [
      {
        call: 'phone_numbers',
        outcome: 'META_TOKEN_INVALID',
        status: 400,
        meta_code: 190,
        meta_subcode: 463,
        fbtrace_id: 'AbCdEfGhIjK',
        graph_version: 'v27.0'
      }
    ]
  )

  const bare = await meta(t, raw(502, '<html>', { 'x-fb-trace-id': 'FromTheHeader' }))
  await t.rejects(bare.graph.exchangeCode(app, { code }), { code: 'META_EXCHANGE_UNKNOWN' })
  t.match(bare.lines, [{ status: 502, fbtrace_id: 'FromTheHeader' }])

  const gone = await meta(t, drop)
  await new Promise(resolve => gone.server.close(resolve))
  await t.rejects(gone.graph.exchangeCode(app, { code }), { code: 'META_UNAVAILABLE' })
  t.match(gone.lines, [{ call: 'exchange_code', reason: 'ECONNREFUSED' }])
})

await t.test('the log line of a success contains the version that Meta served', async t => {
  const { graph, lines, successes } = await meta(
    t,
    json(200, { access_token: token }, { 'facebook-api-version': 'v21.0' })
  )
  await graph.exchangeCode(app, { code })
  t.strictSame(successes, [{ call: 'exchange_code', graph_version: 'v21.0' }])
  t.same(lines, [])
})
