import Fastify, { type FastifyError } from 'fastify'
import t from '../run/tap.js'
import { graphErrorDetails } from '../../src/errors.js'
import errorHandler from '../../src/http/error-handler.js'
import { adviceFor } from '../../src/meta/advice.js'
import { BLOCK_MS, clock } from '../fixtures/clock.js'
import {
  callbackRefused, GraphError, onBusinessApp, registerRefused, temporarilyDown, throttled, tokenRefused,
  tokenSubcodes
} from '../graph/errors.js'
import { calls, pin, standIn, thrownBy } from './wire.js'

type Call = keyof typeof calls
/** A reply of Meta, the answer of the service as `<status> <code>`, and a pattern for the advice in it. */
type Row = [GraphError, string, RegExp?]

const WABA: Call[] = ['phone_numbers', 'subscribe', 'override', 'phone_override', 'subscriptions', 'unsubscribe']
const PHONE: Call[] = ['phone', 'register']
const CUSTOMER: Call[] = [...WABA, ...PHONE]
const ALL: Call[] = [...CUSTOMER, 'access_token', 'extend', 'debug_token']

const refused = (code: number, subcode?: number, message = 'A message', status = 400) =>
  new GraphError(status, code, message, subcode === undefined ? {} : { error_subcode: subcode })
const beforeOverride = '(#100) Before override the current callback uri, your app must be subscribed to receive ' +
  'messages for WhatsApp Business Account'

/* The rows of Meta's error tables in their order. */
const tables: [string, Call[], Row[]][] = [
  ['/oauth/access_token, a code', ['access_token'], [
    [refused(100, 36009, 'This authorization code has been used.'), '400 META_CODE_USED', /used already/],
    [refused(100, 36007, 'This authorization code has expired.'), '400 META_CODE_EXPIRED', /has expired/],
    [
      refused(100, 36008, 'Error validating verification code.'),
      '400 META_REDIRECT_MISMATCH',
      /character by character/
    ],
    [refused(100, undefined, 'Invalid verification code format.'), '400 META_CODE_INVALID', /unchanged/],
    [
      refused(191, undefined, 'Missing redirect_uri parameter.'),
      '400 META_REDIRECT_MISMATCH',
      /character by character/
    ],
    [refused(1, undefined, 'Error validating client secret.'), '502 META_APP_REJECTED', /fb_app_secret/],
    [temporarilyDown(), '502 META_EXCHANGE_UNKNOWN', /not sent again/],
    [new GraphError(503, 1, 'An unexpected error has occurred.', { is_transient: true }), '502 META_EXCHANGE_UNKNOWN'],
    [new GraphError(400, 2, 'Service down', { is_transient: true }), '503 META_UNAVAILABLE', /get a new one/],
    [refused(2), '503 META_UNAVAILABLE', /get a new one/],
    [refused(424242), '400 META_CODE_INVALID', /get a new one/]
  ]],
  ['/oauth/access_token, a token to extend', ['extend'], [
    [refused(1, undefined, 'Error validating client secret.'), '502 META_APP_REJECTED', /fb_app_secret/],
    [tokenRefused(463), '400 META_TOKEN_INVALID', /token has expired/],
    [tokenRefused(), '400 META_TOKEN_INVALID', /not valid for this app/],
    [temporarilyDown(), '503 META_UNAVAILABLE', /Try again later/]
  ]],
  ['/oauth/access_token, the app', ['access_token', 'extend'], [
    [
      refused(101, undefined, 'Error validating application. Invalid application ID.'),
      '502 META_APP_REJECTED',
      /fb_app_id/
    ],
    [refused(101, undefined, 'Missing client_id parameter.'), '502 META_APP_REJECTED']
  ]],
  ['any call', ALL, [
    [refused(3, undefined, 'Capability', 403), '502 META_APP_REJECTED', /what the app may do/],
    [refused(4), '503 META_RATE_LIMITED', /limits the rate/],
    [throttled(4), '503 META_RATE_LIMITED'],
    ...[10, 200, 299].map((code): Row => [
      refused(code, undefined, 'Permission', 403), '403 META_PERMISSION_MISSING', /grant all that it asks for/
    ]),
    ...[17, 32, 341, 80007, 80008].map((code): Row => [refused(code), '503 META_RATE_LIMITED']),
    [refused(613, 1996), '503 META_RATE_LIMITED'],
    [throttled(80007), '503 META_RATE_LIMITED'],
    [throttled(80008), '503 META_RATE_LIMITED']
  ]],
  ['with a token of the customer', CUSTOMER, [
    [refused(0, undefined, 'AuthException', 401), '400 META_TOKEN_INVALID'],
    [refused(1, undefined, 'Unknown', 500), '503 META_UNAVAILABLE'],
    [refused(1), '503 META_UNAVAILABLE'],
    [refused(2, undefined, 'Service down', 503), '503 META_UNAVAILABLE'],
    [refused(102, undefined, 'Session', 401), '400 META_TOKEN_INVALID'],
    [tokenRefused(undefined, 401), '400 META_TOKEN_INVALID', /not valid for this app/],
    [tokenRefused(458, 401), '400 META_TOKEN_INVALID', /took the access away/],
    [tokenRefused(459, 401), '400 META_TOKEN_INVALID', /logs in at www\.facebook\.com/],
    [tokenRefused(460), '400 META_TOKEN_INVALID', /changed the password/],
    [tokenRefused(463), '400 META_TOKEN_INVALID', /token has expired/],
    [tokenRefused(464), '400 META_TOKEN_INVALID', /not confirmed/],
    [tokenRefused(467), '400 META_TOKEN_INVALID', /session of the access token has ended/],
    [tokenRefused(492), '400 META_TOKEN_INVALID', /lost the role/],
    [tokenRefused(493), '400 META_TOKEN_INVALID', /idle for more than 90 days/],
    [refused(368, undefined, 'Blocked', 403), '403 META_WABA_NOT_ACCESSIBLE', /breach of its policies/],
    [refused(131031, undefined, 'Locked', 403), '403 META_WABA_NOT_ACCESSIBLE', /locked the WhatsApp Business Account/],
    [refused(2500, undefined, 'An active access token must be used'), '400 META_TOKEN_INVALID'],
    [refused(104, undefined, 'Missing token', 401), '502 META_UNEXPECTED_REPLY']
  ]],
  ['at a WABA', WABA, [
    [refused(33), '403 META_WABA_NOT_ACCESSIBLE', /does not see the WhatsApp Business Account/],
    [refused(100, 33), '403 META_WABA_NOT_ACCESSIBLE'],
    [refused(803, undefined, 'Missing', 404), '403 META_WABA_NOT_ACCESSIBLE']
  ]],
  ['at a phone number', PHONE, [
    [refused(33), '403 META_PHONE_NOT_IN_WABA', /does not belong/],
    [refused(100, 33), '403 META_PHONE_NOT_IN_WABA'],
    [refused(803, undefined, 'Missing', 404), '403 META_PHONE_NOT_IN_WABA']
  ]],
  ['the override', ['override', 'phone_override'], [
    [callbackRefused(), '409 META_CALLBACK_REFUSED', /echo hub\.challenge/],
    [callbackRefused('curl_errno = 28'), '409 META_CALLBACK_REFUSED'],
    [refused(100, undefined, beforeOverride), '502 META_APP_REJECTED', /no webhook/],
    [refused(100, undefined, 'Param override_callback_uri'), '409 META_CALLBACK_REFUSED', /200 characters/]
  ]],
  ['/register', ['register'], [
    [registerRefused(100), '409 META_REGISTER_REFUSED', /exactly six digits/],
    [onBusinessApp(), '409 META_REGISTER_REFUSED', /does not tell which/],
    [registerRefused(133000), '409 META_REGISTER_REFUSED', /made again at Meta/],
    [registerRefused(133004), '503 META_UNAVAILABLE', /Try again later/],
    [registerRefused(133005), '409 META_REGISTER_REFUSED', /Send the right one .* or reset it in WhatsApp Manager/],
    [registerRefused(133006), '409 META_REGISTER_REFUSED', /verified again/],
    [registerRefused(133008), '409 META_REGISTER_REFUSED', /wrong too often.*after some time/],
    [registerRefused(133009), '409 META_REGISTER_REFUSED', /too fast/],
    [registerRefused(133010), '409 META_REGISTER_REFUSED', /number is not registered/],
    [registerRefused(133015), '409 META_REGISTER_REFUSED', /some minutes later/],
    [registerRefused(133016), '409 META_REGISTER_REFUSED', /when 72 hours have passed/]
  ]]
]

for (const [name, routes, rows] of tables) {
  await t.test(`${name}: each refusal has its error, its advice in the answer, and Meta's codes`, async t => {
    const { meta, graph } = await standIn(t)
    const { advance } = clock(t)
    const server = Fastify()
    t.teardown(() => server.close())
    await server.register(errorHandler)
    for (const route of routes) server.post(`/${route}`, async () => { await calls[route](graph) })

    for (const route of routes) {
      for (const [reply, expected, advice = /\S/] of rows) {
        const of = `${route} ${reply.code} ${String(reply.extra.error_subcode)}`
        meta.fail(route, { reply, times: 2 })
        const { sent, ...details } = graphErrorDetails(await thrownBy(calls[route](graph))) ?? {}
        t.equal(sent, true, of)
        t.match(
          details,
          { meta_code: reply.code, meta_subcode: reply.extra.error_subcode ?? null, fbtrace_id: /^A\w{22}$/ },
          of
        )
        if (expected.includes('RATE')) advance(BLOCK_MS)

        const answer = await server.inject({ method: 'POST', url: `/${route}` })
        const problem = answer.json()
        t.equal(`${answer.statusCode} ${problem.code}`, expected, of)
        t.match(problem.detail, advice, of)
        t.match(problem.detail, /\b(Start|Send|Check|Try again|Store|Mend|Name)\b/, `${of} says what to do`)
        t.notMatch(answer.body, reply.message)
        t.notMatch(answer.body, pin)
        if (expected.includes('RATE')) advance(BLOCK_MS)
      }
    }
    t.equal(meta.requests.length, routes.length * rows.length * 2, 'each call once')
  })
}

await t.test('each refusal has its own advice, and the default is the message of the error', async t => {
  const { meta, graph } = await standIn(t)
  const codes = [100, 133000, 133005, 133006, 133008, 133009, 133010, 133015, 133016] as const
  const replies = [
    ...codes.map(code => registerRefused(code)),
    onBusinessApp(),
    ...tokenSubcodes.map(subcode => tokenRefused(subcode, 401)),
    refused(10),
    refused(368),
    refused(131031)
  ]
  const given = new Set<string>()
  for (const reply of replies) {
    meta.fail('register', { reply })
    const err = await thrownBy(calls.register(graph))
    if (!isOurs(err)) return t.fail(`no error for ${reply.code}`)
    t.not(adviceFor(err), err.message)
    given.add(adviceFor(err))
  }
  t.equal(given.size, replies.length)

  meta.fail('register', { reply: registerRefused(133004) })
  const err = await thrownBy(calls.register(graph))
  t.ok(isOurs(err) && adviceFor(err) === err.message, 'else it is the message')
})

await t.test('debug_token gives the reason for which a token is invalid', async t => {
  const { meta, graph } = await standIn(t)
  for (const [subcode, pattern] of [
    [460, /changed the password/], ['460', /changed the password/], [undefined, /not valid for this app/],
    ['460; drop', /not valid for this app/]
  ] as const) {
    meta.fail('debug_token', { patch: { data: { is_valid: false, error: { code: 190, subcode } } } })
    const err = await thrownBy(calls.debug_token(graph))
    t.ok(isOurs(err) && pattern.test(adviceFor(err)), String(subcode))
    t.match(graphErrorDetails(err), { sent: true, meta_code: 190, meta_subcode: Number(subcode) || null })
  }
})

function isOurs (err: unknown): err is FastifyError {
  return err instanceof Error && 'code' in err && 'statusCode' in err
}
