import t from '../../run/tap.js'
import { graphErrorDetails } from '../../../src/errors.js'
import { faults } from '../../graph/faults.js'
import { GraphError, registerRefused, throttled, tokenRefused, withTexts } from '../../graph/errors.js'
import { app, calls, json, meta, standIn, thrownBy } from '../wire.js'

type Call = keyof typeof calls
const ROUTES = Object.keys(calls) as Call[]

await t.test('a refusal whose codes are texts means the same, for each call', async t => {
  const { meta, graph } = await standIn(t)
  const errors = [
    ...[36007, 36008, 36009, 33].map(subcode => new GraphError(400, 100, 'A message', { error_subcode: subcode })),
    ...[463, 493, undefined].map(subcode => tokenRefused(subcode, 401)),
    ...[1, 2, 3, 10, 33, 101, 102, 191, 200, 368, 803, 2200, 2500, 131031, 424242].map(code =>
      new GraphError(400, code, 'A message')),
    new GraphError(400, 190, 'A message', { is_transient: true }),
    new GraphError(400, 190, 'A message', { is_transient: false }),
    new GraphError(500, 2, 'A message', { is_transient: true }),
    registerRefused(100),
    registerRefused(133005)
  ]
  for (const route of ROUTES) {
    for (const error of errors) {
      const outcome = async (reply: GraphError) => {
        meta.fail(route, { reply })
        const err = await thrownBy(calls[route](graph))
        const { meta_code, meta_subcode } = graphErrorDetails(err) ?? {}
        return { err: String(err), advice: Object(err).advice, meta_code, meta_subcode }
      }
      const of = `${route} ${error.code} ${String(error.extra.error_subcode)}`
      const usual = await outcome(error)
      t.equal(usual.meta_code, error.code, of)
      t.strictSame(await outcome(withTexts(error)), usual, of)
    }
  }
})

await t.test('a limit whose code is a text blocks as any other', async t => {
  const { meta, graph } = await standIn(t)
  meta.fail('phone_numbers', { reply: withTexts(throttled(4)) })
  await t.rejects(calls.phone_numbers(graph), { code: 'META_RATE_LIMITED', retry_after: 300 })
  await t.rejects(calls.phone_numbers(graph), { code: 'META_RATE_LIMITED' })
  t.equal(meta.requests.length, 1)
})

await t.test('a refusal refuses a code however bare it is, and is no token\'s end', async t => {
  const bare = [
    {}, { message: 'A message' }, { message: {} }, { code: null }, { code: {} }, { code: '' }, { code: 1.5 },
    { code: 'x190' }, { code: '1e3' }, { code: true }, { code: 1e300 }, { code: [190] },
    { type: 'OAuthException', message: 'Error validating access token', error_data: 'x', error_subcode: [463] }
  ]
  for (const status of [400, 401, 403, 404]) {
    for (const error of bare) {
      const { graph } = await meta(t, json(status, { error }))
      const of = `${status} ${JSON.stringify(error)}`
      const err = await thrownBy(calls.access_token(graph))
      t.match(err, { code: 'META_CODE_INVALID', advice: /get a new one/ }, of)
      t.strictSame(graphErrorDetails(err)?.meta_code, null, of)
      t.match(await thrownBy(calls.debug_token(graph)), { code: 'META_UNEXPECTED_REPLY' }, of)
      t.match(await thrownBy(calls.phone_numbers(graph)), { code: 'META_UNEXPECTED_REPLY' }, of)
    }
  }
})

await t.test('the outcome of a code is unknown without a refusal', async t => {
  for (const [status, body] of [
    [200, { error: {} }], [200, { error: { code: 100, error_subcode: 36009 } }], [500, { error: {} }],
    [502, { error: { code: '100' } }], [400, { error: 'text' }], [400, { error: [] }], [400, { error: null }],
    [400, {}], [400, []], [400, 'error'], [302, { error: {} }], [200, {}]
  ] as const) {
    const { graph } = await meta(t, json(status, body))
    const of = `${status} ${JSON.stringify(body)}`
    t.match(await thrownBy(calls.access_token(graph)), { code: 'META_EXCHANGE_UNKNOWN' }, of)
  }
})

await t.test('at the stand-in a bare refusal ends a login, and does not use up the code', async t => {
  const { meta, graph } = await standIn(t)
  const code = meta.state.issueCode({ app_id: app.id })
  meta.fail('access_token', faults.bareError)
  await t.rejects(graph.exchangeCode(app, { code }), { code: 'META_CODE_INVALID' })
  t.equal(meta.state.codes.get(code)?.used, false)
})
