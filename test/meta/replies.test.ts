import { Readable } from 'node:stream'
import { inspect } from 'node:util'
import { gzipSync } from 'node:zlib'
import pLimit from 'p-limit'
import type { Test } from 'tap'
import t from '../run/tap.js'
import type { MetaGraph } from '../../src/meta/meta-graph.js'
import { graphErrorDetails } from '../../src/errors.js'
import { type Answer, app, calls, drop, json, meta, proof, raw, refused, secrets, thrownBy, token } from './wire.js'

type Row = [string, Answer]

const silent: Answer = () => {}
const unfinished: Answer = res => { res.writeHead(200).write('{"access_token"') }

function * endless () { for (;;) yield Buffer.alloc(65536, ' ') }

/** The outcome of a failed call. Asserts that it is logged once and reveals no secret. */
async function failure (t: Test, answer: Answer, call: (graph: MetaGraph) => Promise<unknown>) {
  // A busy machine needs seconds for some of the answers that end.
  const timeoutMs = answer === silent || answer === unfinished ? 2000 : 30_000
  const { graph, urls, lines } = await meta(t, answer, { timeoutMs })
  const err = await thrownBy(call(graph))
  t.equal(urls.length, 1, 'called once')
  t.equal(lines.length, 1, 'logged once')
  const given = inspect([
    err, lines, graphErrorDetails(err)
  ], { depth: Infinity, showHidden: true }) + JSON.stringify([err, lines])
  for (const secret of [...secrets, proof(token)]) t.notOk(given.includes(secret), `gives nothing away ${secret}`)
  t.equal(err instanceof Error ? err.cause : null, undefined)
  t.match(err, { code: lines[0]?.outcome })
  t.match(graphErrorDetails(err), { sent: true })
  return lines[0]?.outcome
}

const limits = [4, 17, 32, 341, 613, 80007, 80008]
const transient = { is_transient: true }
const proofError = { type: 'GraphMethodException', message: 'Invalid appsecret_proof provided in the API argument' }

// Error envelopes that mean the same for every call.
const anyCall: Row[] = [
  ...limits.map((code): Row => ['META_RATE_LIMITED', refused(400, code, undefined, transient)]),
  ['META_RATE_LIMITED', refused(429, 424242)],
  ['META_UNAVAILABLE', refused(400, 1, undefined, transient)],
  ['META_UNAVAILABLE', refused(400, 2)],
  ['META_APP_REJECTED', refused(400, 101)],
  ['META_APP_REJECTED', refused(400, 3)],
  ['META_PERMISSION_MISSING', refused(403, 10)],
  ['META_PERMISSION_MISSING', refused(403, 200)],
  ['META_PERMISSION_MISSING', refused(403, 299)],
  ['META_UNEXPECTED_REPLY', refused(400, 300)],
  ['META_UNEXPECTED_REPLY', refused(400, 1e300)],
  ['META_UNEXPECTED_REPLY', refused(400, 424242, undefined, { message: null, fbtrace_id: { odd: true } })],
  ['META_UNEXPECTED_REPLY', json(400, { error: {} })],
  ['META_UNEXPECTED_REPLY', json(401, { error: { message: 'no code', type: 'OAuthException' } })]
]

// Replies after which the outcome of the call is unknown; for the exchange they all map to one error.
const noAnswer: Row[] = [
  ['META_RATE_LIMITED', raw(429, '<html>slow down</html>')],
  ['META_UNAVAILABLE', refused(500, 2, undefined, transient)],
  ['META_UNAVAILABLE', refused(503, 1, undefined, transient)],
  ['META_UNAVAILABLE', refused(500, 424242)],
  ['META_UNAVAILABLE', raw(502, '<html>Bad gateway</html>', { 'content-type': 'text/html' })],
  ['META_UNAVAILABLE', drop],
  [
    'META_UNAVAILABLE',
    res => { res.writeHead(200, { 'content-length': 100 }).write('{"acc'); setTimeout(() => res.destroy(), 20) }
  ],
  ['META_TIMEOUT', silent],
  ['META_TIMEOUT', unfinished],
  ['META_UNEXPECTED_REPLY', refused(200, 190)],
  ['META_UNEXPECTED_REPLY', refused(302, 100, 36009)],
  // fetch reports a 407 as a network error.
  ['META_UNAVAILABLE', raw(407, '')],
  ...['text', null, [], 190].map((error): Row => ['META_UNEXPECTED_REPLY', json(400, { error })]),
  ['META_UNEXPECTED_REPLY', json(200, { error: {} })],
  ['META_UNEXPECTED_REPLY', json(200, null)],
  ['META_UNEXPECTED_REPLY', json(200, { success: false })],
  ['META_UNEXPECTED_REPLY', json(200, { success: 'yes', webhook_configuration: 'x', data: 1 })],
  ['META_UNEXPECTED_REPLY', raw(200, '')],
  ['META_UNEXPECTED_REPLY', raw(204, '')],
  ['META_UNEXPECTED_REPLY', raw(200, '<html>Welcome</html>')],
  ['META_UNEXPECTED_REPLY', raw(200, Buffer.alloc(1024 * 1024 + 1, ' '))],
  ['META_UNEXPECTED_REPLY', res => { Readable.from(endless()).on('error', () => {}).pipe(res) }],
  ['META_UNEXPECTED_REPLY', raw(200, gzipSync(Buffer.alloc(1024 * 1024 + 1, ' ')), { 'content-encoding': 'gzip' })],
  ['META_UNEXPECTED_REPLY', json(302, { access_token: token }, { location: '/elsewhere' })],
  ['META_UNEXPECTED_REPLY', json(308, { error: { code: 190 } }, { location: 'http://169.254.169.254/' })]
]

const oddTokens = [
  ...[
    undefined, null, '', 42, 'with\nbreak', 'a b', 'é', 'x'.repeat(4097)
  ].map((odd) => json(200, { access_token: odd, token_type: 'bearer' })),
  raw(200, '{"access_token":12345678901234567890}')
]
const noSession = refused(
  400,
  2500,
  undefined,
  { message: 'An active access token must be used to query information about the current user.' }
)

/** Refusals of the customer's token, and of an object that it has no access to. */
const customers = (missing: string): Row[] => [
  ['META_TOKEN_INVALID', refused(401, 190)],
  ['META_TOKEN_INVALID', refused(401, 190, 424242)],
  ['META_TOKEN_INVALID', refused(401, 102)],
  ['META_TOKEN_INVALID', refused(401, 0)],
  ['META_TOKEN_INVALID', noSession],
  ['META_APP_REJECTED', refused(400, 100, undefined, proofError)],
  ['META_APP_REJECTED', refused(500, 3)],
  [missing, refused(400, 2500, undefined, { message: 'Unknown path components: /phone_numbers' })],
  [missing, refused(400, 100, 33, { type: 'GraphMethodException' })],
  [
    missing,
    refused(
      400,
      100,
      undefined,
      { message: '(#100) Tried accessing nonexisting field (phone_numbers) on node type (User)' }
    )
  ],
  [missing, refused(400, 33)],
  [missing, refused(404, 803)],
  ['META_UNEXPECTED_REPLY', refused(400, 2500)],
  ['META_WABA_NOT_ACCESSIBLE', refused(403, 368)],
  ['META_WABA_NOT_ACCESSIBLE', refused(403, 131031)]
]
const wabas = customers('META_WABA_NOT_ACCESSIBLE')
const phones = customers('META_PHONE_NOT_IN_WABA')

const tables: Record<string, Row[]> & Record<keyof typeof calls, Row[]> = {
  access_token: [
    ...noAnswer.map(([, answer]): Row => ['META_EXCHANGE_UNKNOWN', answer]),
    ['META_CODE_INVALID', refused(400, 100, 99)],
    ['META_APP_REJECTED', refused(403, 368)],
    ['META_EXCHANGE_UNKNOWN', refused(500, 100, 36009)],
    ['META_EXCHANGE_UNKNOWN', refused(500, 1)],
    ['META_EXCHANGE_UNKNOWN', refused(503, 4)],
    ['META_CODE_INVALID', refused(400, 190)],
    ...oddTokens.map((answer): Row => ['META_EXCHANGE_UNKNOWN', answer])
  ],
  extend: [
    ...noAnswer,
    ['META_TOKEN_INVALID', refused(400, 190)],
    ['META_TOKEN_INVALID', refused(400, 102)],
    ['META_TOKEN_INVALID', refused(401, 0)],
    ['META_TOKEN_INVALID', noSession],
    ['META_APP_REJECTED', refused(400, 1)],
    ['META_UNAVAILABLE', refused(500, 1)],
    ['META_UNEXPECTED_REPLY', refused(400, 100)],
    ...oddTokens.map((answer): Row => ['META_UNEXPECTED_REPLY', answer])
  ],
  debug_token: [
    ...noAnswer,
    [
      'META_TOKEN_INVALID',
      json(
        200,
        {
          data: {
            app_id: app.id,
            is_valid: false,
            expires_at: 1,
            error: { code: 190, message: `Meta quotes ${token}`, subcode: 463 }
          }
        }
      )
    ],
    ['META_TOKEN_INVALID', json(200, { data: { is_valid: false, scopes: [] } })],
    ['META_TOKEN_INVALID', json(200, { data: { app_id: '1', is_valid: true, expires_at: 0 } })],
    ['META_UNEXPECTED_REPLY', json(200, { data: { is_valid: true, expires_at: 0 } })],
    [
      'META_TOKEN_INVALID',
      refused(400, 100, undefined, { message: '(#100) The App_id in the input_token did not match the Viewing App' })
    ],
    ...[102, 190, 368, 2500].map((code): Row => ['META_APP_REJECTED', refused(400, code)]),
    ['META_APP_REJECTED', refused(401, 0)],
    ['META_APP_REJECTED', refused(400, 100, undefined, proofError)],
    ...['yes', 'TRUE', 2, null, {}].map((odd): Row =>
      ['META_UNEXPECTED_REPLY', json(200, { data: { app_id: app.id, is_valid: odd } })]),
    ...[{}, '', 'a\nb', 'x'.repeat(256), 0, -1, 1.5, true].flatMap((odd) => [true, false].map((valid): Row =>
      ['META_UNEXPECTED_REPLY', json(200, { data: { app_id: odd, is_valid: valid } })]))
  ],
  phone_numbers: [
    ...noAnswer,
    ...wabas,
    ['META_UNEXPECTED_REPLY', refused(400, 100)],
    ...[undefined, null, {}, '', '\0', '\ud800', 0, -1, 1.5, 1e300, true].map((odd): Row =>
      ['META_UNEXPECTED_REPLY', json(200, { data: [{ id: odd }] })]),
    ['META_UNEXPECTED_REPLY', json(200, { data: [{ id: '1' }], paging: 'x' })],
    ['META_UNEXPECTED_REPLY', json(200, { data: [{ id: '1' }], paging: { next: 'http://127.0.0.1:1/' } })]
  ],
  subscribe: [
    ...noAnswer, ...wabas, ['META_UNEXPECTED_REPLY', refused(400, 100)], ['META_UNEXPECTED_REPLY', refused(400, 2200)]
  ],
  override: [
    ...noAnswer, ...wabas, ['META_CALLBACK_REFUSED', refused(400, 2200)], ['META_CALLBACK_REFUSED', refused(400, 100)]
  ],
  phone_override: [
    ...noAnswer, ...wabas, ['META_CALLBACK_REFUSED', refused(400, 2200)], ['META_CALLBACK_REFUSED', refused(400, 100)]
  ],
  subscriptions: [...noAnswer, ...wabas, ['META_UNEXPECTED_REPLY', json(200, { data: [null] })]],
  unsubscribe: [...noAnswer, ...wabas],
  phone: [...noAnswer, ...phones, ['META_UNEXPECTED_REPLY', refused(400, 133010)]],
  register: [
    ...noAnswer,
    ...phones,
    ['META_REGISTER_REFUSED', refused(400, 133016, undefined, transient)],
    ['META_UNAVAILABLE', refused(400, 133004)],
    ['META_UNEXPECTED_REPLY', refused(400, 136024)]
  ]
}

for (const [name, call] of Object.entries(calls)) {
  await t.test(`${name}: each reply of Meta maps to its error`, async t => {
    // A refusal that says nothing else still refuses a code.
    const refusals = anyCall.map(([code, answer]): Row =>
      [name === 'access_token' && code === 'META_UNEXPECTED_REPLY' ? 'META_CODE_INVALID' : code, answer])
    const limit = pLimit(8)
    await Promise.all([...refusals, ...(tables[name] ?? [])].map(async ([expected, answer], i) => {
      await limit(async () => { t.equal(await failure(t, answer, call), expected, `row ${i}`) })
    }))
  })
}
