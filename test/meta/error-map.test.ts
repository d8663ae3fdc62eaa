import t from '../run/tap.js'
import { advice, registerAdvice, tokenAdvice } from '../../src/meta/advice.js'
import { limitScopeOf, mapGraphError, type MappedError } from '../../src/meta/error-map.js'
import type { Subject } from '../../src/meta/types.js'

const WABA: Subject[] = ['customer', 'override']
const PHONE: Subject[] = ['phone', 'register']
const CUSTOMER: Subject[] = [...WABA, ...PHONE]
const TOKEN: Subject[] = [...CUSTOMER, 'extend']
const ALL: Subject[] = [...TOKEN, 'app', 'code']
const without = (...left: Subject[]) => ALL.filter((on) => !left.includes(on))

interface Reply {
  code: number | null
  subcode?: number
  status?: number
  message?: string
  transient?: boolean
}
/** The error of a reply, as `ErrorReply` reads it. */
const errorOf = ({ code, subcode, message, transient }: Reply) => ({
  code,
  error_subcode: subcode ?? null,
  message: message ?? null,
  is_transient: transient ?? null,
  fbtrace_id: null
})
const reply = (given: Reply) => [given.status ?? 400, errorOf(given)] as const

/** The code of the error that a mapping throws. */
const codeOf = ({ throws: ErrorOfOurs }: MappedError) => new ErrorOfOurs().code

type Row = [Subject[], Reply, string, string?]

const limits = [4, 17, 32, 341, 613, 80007, 80008]
const register = [133000, 133005, 133006, 133008, 133009, 133010, 133015, 133016]
const proof = 'Invalid APPSECRET_PROOF provided in the API argument'
const noSession = 'An active Access token must be used'
const unknownPath = 'Unknown Path components: /phone_numbers'
const noField = '(#100) Tried accessing Nonexisting Field (phone_numbers)'
const override = '(#100) Before override the current callback uri, your app must be subscribed'

const rows: Row[] = [
  ...limits.map((code): Row => [ALL, { code, transient: true }, 'META_RATE_LIMITED']),
  [without('code'), { code: 4, status: 500 }, 'META_RATE_LIMITED'],
  [ALL, { code: 424242, status: 429 }, 'META_RATE_LIMITED'],

  ...register.flatMap((code): Row[] => [
    [['register'], { code, transient: true }, 'META_REGISTER_REFUSED', registerAdvice[code]],
    [without('register'), { code }, 'META_UNEXPECTED_REPLY']
  ]),
  [['register'], { code: 133004 }, 'META_UNAVAILABLE'],
  [without('register'), { code: 133004 }, 'META_UNEXPECTED_REPLY'],
  [['code'], { code: 424242, transient: true }, 'META_UNAVAILABLE', advice.newCode],
  [without('code'), { code: 190, transient: true }, 'META_UNAVAILABLE'],
  [['phone'], { code: 190, transient: false }, 'META_TOKEN_INVALID'],

  [['code'], { code: 100, subcode: 36009 }, 'META_CODE_USED'],
  [['code'], { code: 100, subcode: 36007 }, 'META_CODE_EXPIRED'],
  [['code'], { code: 100, subcode: 36008 }, 'META_REDIRECT_MISMATCH'],
  [['code'], { code: 191 }, 'META_REDIRECT_MISMATCH'],
  [['code'], { code: 100 }, 'META_CODE_INVALID'],
  [['code'], { code: 424242 }, 'META_CODE_INVALID', advice.newCode],
  [['code'], { code: 1, subcode: 36009 }, 'META_APP_REJECTED'],
  [['code'], { code: 1, subcode: 36007 }, 'META_APP_REJECTED'],
  [['code'], { code: 1, subcode: 36008 }, 'META_APP_REJECTED'],
  [['code'], { code: 368 }, 'META_APP_REJECTED'],
  [['code'], { code: 2 }, 'META_UNAVAILABLE', advice.newCode],
  [['customer', 'override', 'phone', 'extend'], { code: 191 }, 'META_UNEXPECTED_REPLY'],

  [['extend'], { code: 1, status: 400 }, 'META_APP_REJECTED'],
  [['extend'], { code: 1, status: 403 }, 'META_UNAVAILABLE'],
  [['extend'], { code: 424242 }, 'META_UNEXPECTED_REPLY'],
  [[...CUSTOMER, 'app'], { code: 1 }, 'META_UNAVAILABLE'],
  [without('code'), { code: 2 }, 'META_UNAVAILABLE'],

  [ALL, { code: 3 }, 'META_APP_REJECTED'],
  [ALL, { code: 101 }, 'META_APP_REJECTED'],
  [without('code'), { code: 100, message: proof }, 'META_APP_REJECTED'],
  [['customer'], { code: 99, message: proof }, 'META_UNEXPECTED_REPLY'],
  ...[102, 190, 368, 2500].map((code): Row => [['app'], { code }, 'META_APP_REJECTED']),
  [['app'], { code: 0, status: 401 }, 'META_APP_REJECTED'],
  [['app'], { code: 0 }, 'META_UNEXPECTED_REPLY'],
  [['app'], { code: 100 }, 'META_TOKEN_INVALID'],

  ...Object.entries(tokenAdvice).map(([subcode, advice]): Row => [
    TOKEN,
    { code: 190, subcode: Number(subcode), status: 401 },
    'META_TOKEN_INVALID',
    advice
  ]),
  [TOKEN, { code: 190, subcode: 1 }, 'META_TOKEN_INVALID'],
  [TOKEN, { code: 102, subcode: 463 }, 'META_TOKEN_INVALID'],
  [TOKEN, { code: 0, status: 401 }, 'META_TOKEN_INVALID'],
  [TOKEN, { code: 0 }, 'META_UNEXPECTED_REPLY'],
  [TOKEN, { code: 104, status: 401 }, 'META_UNEXPECTED_REPLY'],
  [TOKEN, { code: 2500, message: noSession }, 'META_TOKEN_INVALID'],
  [TOKEN, { code: 104, message: noSession }, 'META_UNEXPECTED_REPLY'],
  [['code'], { code: 190, subcode: 463 }, 'META_CODE_INVALID', advice.newCode],
  [['code'], { code: 0, status: 401 }, 'META_CODE_INVALID', advice.newCode],
  [['code'], { code: 2500, message: noSession }, 'META_CODE_INVALID', advice.newCode],

  ...([
    [WABA, 'META_WABA_NOT_ACCESSIBLE'], [PHONE, 'META_PHONE_NOT_IN_WABA'], [['extend'], 'META_UNEXPECTED_REPLY']
  ] as const).flatMap(([on, code]): Row[] => [
    [[...on], { code: 2500, message: unknownPath }, code],
    [[...on], { code: 100, subcode: 33 }, code],
    [[...on], { code: 100, message: noField }, code],
    [[...on], { code: 33 }, code],
    [[...on], { code: 803, status: 404 }, code],
    [[...on], { code: 104, subcode: 33 }, 'META_UNEXPECTED_REPLY'],
    [[...on], { code: 104, message: unknownPath }, 'META_UNEXPECTED_REPLY'],
    [[...on], { code: 104, message: noField }, 'META_UNEXPECTED_REPLY'],
    [[...on], { code: 2500 }, 'META_UNEXPECTED_REPLY']
  ]),
  [CUSTOMER, { code: 368 }, 'META_WABA_NOT_ACCESSIBLE', advice.policyBlock],
  [CUSTOMER, { code: 131031 }, 'META_WABA_NOT_ACCESSIBLE', advice.accountLocked],
  [['extend'], { code: 368 }, 'META_UNEXPECTED_REPLY'],
  [['extend', 'app'], { code: 131031 }, 'META_UNEXPECTED_REPLY'],

  [['register'], { code: 100 }, 'META_REGISTER_REFUSED', registerAdvice[100]],
  [['register'], { code: 100, subcode: 2388092 }, 'META_REGISTER_REFUSED', advice.pinFormat],
  [['register'], { code: 100, subcode: 1 }, 'META_REGISTER_REFUSED', registerAdvice[100]],

  // Without a code only the status, and Meta's word that it is passing, tell something.
  [['code'], { code: null }, 'META_CODE_INVALID', advice.newCode],
  [['code'], { code: null, subcode: 36009 }, 'META_CODE_INVALID', advice.newCode],
  [['code'], { code: null, status: 401 }, 'META_CODE_INVALID', advice.newCode],
  [['code'], { code: null, status: 429 }, 'META_CODE_INVALID', advice.newCode],
  [['code'], { code: null, transient: true }, 'META_CODE_INVALID', advice.newCode],
  [['code'], { code: null, status: 500 }, 'META_EXCHANGE_UNKNOWN'],
  [without('code'), { code: null }, 'META_UNEXPECTED_REPLY'],
  [without('code'), { code: null, status: 401 }, 'META_UNEXPECTED_REPLY'],
  [without('code'), { code: null, status: 403 }, 'META_UNEXPECTED_REPLY'],
  [without('code'), { code: null, status: 404, subcode: 33 }, 'META_UNEXPECTED_REPLY'],
  [without('code'), { code: null, status: 429 }, 'META_RATE_LIMITED'],
  [without('code'), { code: null, status: 503 }, 'META_UNAVAILABLE'],
  [without('code'), { code: null, transient: true }, 'META_UNAVAILABLE'],
  [['customer', 'phone', 'extend'], { code: 100 }, 'META_UNEXPECTED_REPLY'],
  [['override'], { code: 2200 }, 'META_CALLBACK_REFUSED'],
  [without('override', 'code'), { code: 2200 }, 'META_UNEXPECTED_REPLY'],
  [['override'], { code: 100, message: override }, 'META_APP_REJECTED', advice.appWebhook],
  [['customer', 'phone'], { code: 100, message: override }, 'META_UNEXPECTED_REPLY'],
  [['override'], { code: 104, message: override }, 'META_UNEXPECTED_REPLY'],
  [['override'], { code: 100 }, 'META_CALLBACK_REFUSED', advice.callbackParameter],

  ...[10, 200, 250, 299].map((code): Row => [ALL, { code, status: 403 }, 'META_PERMISSION_MISSING', advice.permission]),
  ...[9, 11, 199, 300].map((code): Row => [without('code'), { code, status: 403 }, 'META_UNEXPECTED_REPLY'])
]

await t.test('each error envelope of Meta maps to one error with its advice', async (t) => {
  for (const [ons, given, code, advised] of rows) {
    for (const on of ons) {
      const what = `${on} ${JSON.stringify(given)}`
      const mapped = mapGraphError(on, ...reply(given))
      // A refusal that no rule knows still refuses a code.
      const isOther = on === 'code' && code === 'META_UNEXPECTED_REPLY'
      t.equal(codeOf(mapped), isOther ? 'META_CODE_INVALID' : code, what)
      if (advised !== undefined || on !== 'code') t.equal(mapped.advice, advised, what)
    }
  }
})

await t.test('a reply without an envelope, or outside 4xx and 5xx, maps to the error of its status', async (t) => {
  for (const on of without('code')) {
    for (const [status, error, code] of [
      [200, undefined, 'META_UNEXPECTED_REPLY'], [399, { code: 190 }, 'META_UNEXPECTED_REPLY'],
      [400, undefined, 'META_UNEXPECTED_REPLY'], [429, undefined, 'META_RATE_LIMITED'],
      [
        499, undefined, 'META_UNEXPECTED_REPLY'
      ], [
        500, undefined, 'META_UNAVAILABLE'
      ], [500, { code: 424242 }, 'META_UNAVAILABLE'], [503, undefined, 'META_UNAVAILABLE']
    ] as const) t.equal(codeOf(mapGraphError(on, status, error && errorOf(error))), code, `${on} ${status}`)
  }
})

await t.test('the outcome of a code is unknown unless Meta answers 4xx with an envelope', async (t) => {
  for (const [status, error, code] of [
    [200, undefined, 'META_EXCHANGE_UNKNOWN'], [400, undefined, 'META_EXCHANGE_UNKNOWN'],
    [429, undefined, 'META_EXCHANGE_UNKNOWN'], [500, undefined, 'META_EXCHANGE_UNKNOWN'],
    [
      399, { code: 100 }, 'META_EXCHANGE_UNKNOWN'
    ], [
      400, { code: 100 }, 'META_CODE_INVALID'
    ], [499, { code: 100 }, 'META_CODE_INVALID'], [500, { code: 100 }, 'META_EXCHANGE_UNKNOWN'],
    [429, { code: 100 }, 'META_RATE_LIMITED']
  ] as const) t.equal(codeOf(mapGraphError('code', status, error && errorOf(error))), code, `${status} ${error?.code}`)
})

await t.test('each limit has the scope app, account or token; a bare 429 has the scope app', async (t) => {
  for (const [code, scope] of [
    [4, 'app'], [341, 'app'], [80007, 'account'], [80008, 'account'], [17, 'token'], [32, 'token'], [613, 'token'],
    [190, null], [null, null]
  ] as const) {
    t.equal(limitScopeOf(400, errorOf({ code })), scope, String(code))
  }
  t.equal(limitScopeOf(429, errorOf({ code: 190 })), 'app')
  t.equal(limitScopeOf(429, undefined), 'app')
  t.equal(limitScopeOf(429, errorOf({ code: 80007 })), 'account')
  t.equal(limitScopeOf(500, undefined), null)
})
