import { Readable } from 'node:stream'
import { inspect } from 'node:util'
import { gzipSync } from 'node:zlib'
import { type Test, test } from 'tap'
import type { MetaGraph } from '../../src/plugins/meta-graph.js'
import { type Answer, app, code, drop, json, meta, proof, raw, refused, secrets, token } from './meta-wire.js'

const exchange = (graph: MetaGraph) => graph.exchangeCode(app, { code })
const debug = (graph: MetaGraph) => graph.inspectToken(app, token)
const phones = (graph: MetaGraph) => graph.assertPhoneNumber(app, token, '102290129340398', '106540352242922')

function * endless () { for (;;) yield Buffer.alloc(65536, ' ') }

/** What the call fails with, having checked that it gives nothing away and is logged once. */
async function failure (t: Test, answer: Answer, call: (graph: MetaGraph) => Promise<unknown>) {
  const { graph, urls, lines } = await meta(t, answer)
  const err: unknown = await call(graph).then(() => new Error('no failure'), (err: unknown) => err)
  t.equal(urls.length, 1, 'called once')
  t.equal(lines.length, 1, 'logged once')
  const given = inspect([err, lines], { depth: Infinity, showHidden: true }) + JSON.stringify([err, lines])
  for (const secret of [...secrets, proof(token)]) t.notOk(given.includes(secret), `gives nothing away ${secret}`)
  t.equal(err instanceof Error ? err.cause : null, undefined)
  t.match(err, { code: lines[0]?.outcome })
  return lines[0]?.outcome
}

const limits = [4, 17, 32, 341, 613, 80007, 80008]
const transient = { is_transient: true }
const proofError = { type: 'GraphMethodException', message: 'Invalid appsecret_proof provided in the API argument' }

const anyCall: [string, Answer][] = [
  ...limits.map((code): [string, Answer] => ['META_RATE_LIMITED', refused(400, code, undefined, transient)]),
  ['META_RATE_LIMITED', raw(429, '<html>slow down</html>')],
  ['META_UNAVAILABLE', refused(500, 2, undefined, transient)],
  ['META_UNAVAILABLE', refused(503, 1, undefined, transient)],
  ['META_UNAVAILABLE', refused(400, 1, undefined, transient)],
  ['META_UNAVAILABLE', refused(400, 2)],
  ['META_UNAVAILABLE', refused(500, 424242)],
  ['META_UNAVAILABLE', raw(502, '<html>Bad gateway</html>', { 'content-type': 'text/html' })],
  ['META_UNAVAILABLE', drop],
  ['META_UNAVAILABLE', res => { res.writeHead(200, { 'content-length': 100 }).write('{"acc'); setTimeout(() => res.destroy(), 20) }],
  ['META_TIMEOUT', () => {}],
  ['META_TIMEOUT', res => { res.writeHead(200).write('{"access_token"') }],
  ['META_APP_REJECTED', refused(400, 101)],
  ['META_APP_REJECTED', refused(400, 3)],
  ['META_PERMISSION_MISSING', refused(403, 10)],
  ['META_PERMISSION_MISSING', refused(403, 200)],
  ['META_PERMISSION_MISSING', refused(403, 299)],
  ['META_UNEXPECTED_REPLY', refused(400, 300)],
  ['META_UNEXPECTED_REPLY', refused(400, 424242, undefined, { message: null, fbtrace_id: { odd: true } })],
  ['META_UNEXPECTED_REPLY', refused(200, 190)],
  ['META_UNEXPECTED_REPLY', json(400, { error: { message: 'no code' } })],
  ['META_UNEXPECTED_REPLY', json(400, { error: 'text' })],
  ['META_UNEXPECTED_REPLY', json(200, null)],
  ['META_UNEXPECTED_REPLY', json(200, {})],
  ['META_UNEXPECTED_REPLY', raw(200, '')],
  ['META_UNEXPECTED_REPLY', raw(204, '')],
  ['META_UNEXPECTED_REPLY', raw(200, '<html>Welcome</html>')],
  ['META_UNEXPECTED_REPLY', raw(200, Buffer.alloc(1024 * 1024 + 1, ' '))],
  ['META_UNEXPECTED_REPLY', res => { Readable.from(endless()).on('error', () => {}).pipe(res) }],
  ['META_UNEXPECTED_REPLY', raw(200, gzipSync(Buffer.alloc(1024 * 1024 + 1, ' ')), { 'content-encoding': 'gzip' })],
  ['META_UNEXPECTED_REPLY', json(302, { access_token: token }, { location: '/elsewhere' })],
  ['META_UNEXPECTED_REPLY', json(308, { error: { code: 190 } }, { location: 'http://169.254.169.254/' })]
]

const tables: [string, (graph: MetaGraph) => Promise<unknown>, [string, Answer][]][] = [
  ['exchange', exchange, [
    ['META_CODE_USED', refused(400, 100, 36009)],
    ['META_CODE_EXPIRED', refused(400, 100, 36007)],
    ['META_REDIRECT_MISMATCH', refused(400, 100, 36008)],
    ['META_REDIRECT_MISMATCH', refused(400, 191)],
    ['META_CODE_INVALID', refused(400, 100)],
    ['META_CODE_INVALID', refused(400, 100, 99)],
    ['META_APP_REJECTED', refused(400, 1)],
    ['META_APP_REJECTED', refused(403, 368)],
    ['META_UNAVAILABLE', refused(500, 100, 36009)],
    ['META_UNAVAILABLE', refused(500, 1)],
    ['META_UNEXPECTED_REPLY', refused(302, 100, 36009)],
    // fetch sends once more what it can read again.
    ['META_UNEXPECTED_REPLY', raw(421, '')],
    ['META_UNEXPECTED_REPLY', refused(400, 190)],
    ...[undefined, null, '', 42, 'with\nbreak', 'a b', 'é', 'x'.repeat(4097)].map((odd): [string, Answer] =>
      ['META_UNEXPECTED_REPLY', json(200, { access_token: odd, token_type: 'bearer' })]),
    ...['5183944', -1, {}].map((odd): [string, Answer] =>
      ['META_UNEXPECTED_REPLY', json(200, { access_token: token, expires_in: odd })]),
    ['META_UNEXPECTED_REPLY', raw(200, `{"access_token":"${token}","expires_in":1e999}`)]
  ]],
  ['debug_token', debug, [
    ['META_TOKEN_INVALID', json(200, { data: { app_id: app.id, is_valid: false, expires_at: 1, error: { code: 190, message: `Meta quotes ${token}`, subcode: 463 } } })],
    ['META_TOKEN_INVALID', json(200, { data: { is_valid: false, scopes: [] } })],
    ['META_TOKEN_INVALID', json(200, { data: { app_id: '1', is_valid: true, expires_at: 0 } })],
    ['META_TOKEN_INVALID', json(200, { data: { is_valid: true, expires_at: 0 } })],
    ['META_TOKEN_INVALID', refused(400, 100, undefined, { message: '(#100) The App_id in the input_token did not match the Viewing App' })],
    ...[102, 190, 368, 2500].map((code): [string, Answer] => ['META_APP_REJECTED', refused(400, code)]),
    ['META_APP_REJECTED', refused(401, 0)],
    ['META_APP_REJECTED', refused(400, 100, undefined, proofError)],
    ['META_UNEXPECTED_REPLY', json(200, { data: { app_id: app.id, is_valid: 'true' } })],
    ['META_UNEXPECTED_REPLY', json(200, { data: { app_id: app.id, is_valid: true, expires_at: '2027-01-01' } })]
  ]],
  ['phone_numbers', phones, [
    ['META_TOKEN_INVALID', refused(401, 190)],
    ...[458, 459, 460, 463, 464, 467, 492].map((subcode): [string, Answer] => ['META_TOKEN_INVALID', refused(400, 190, subcode)]),
    ['META_TOKEN_INVALID', refused(401, 102)],
    ['META_TOKEN_INVALID', refused(401, 0)],
    ['META_TOKEN_INVALID', refused(400, 2500, undefined, { message: 'An active access token must be used to query information about the current user.' })],
    ['META_WABA_NOT_ACCESSIBLE', refused(400, 2500, undefined, { message: 'Unknown path components: /phone_numbers' })],
    ['META_UNEXPECTED_REPLY', refused(400, 2500)],
    ['META_APP_REJECTED', refused(400, 100, undefined, proofError)],
    ['META_APP_REJECTED', refused(500, 3)],
    ['META_WABA_NOT_ACCESSIBLE', refused(400, 100, 33, { type: 'GraphMethodException' })],
    ['META_WABA_NOT_ACCESSIBLE', refused(400, 100, undefined, { message: '(#100) Tried accessing nonexisting field (phone_numbers) on node type (User)' })],
    ['META_WABA_NOT_ACCESSIBLE', refused(400, 33)],
    ['META_WABA_NOT_ACCESSIBLE', refused(404, 803)],
    ['META_WABA_NOT_ACCESSIBLE', refused(403, 368)],
    ['META_WABA_NOT_ACCESSIBLE', refused(403, 131031)],
    ['META_UNEXPECTED_REPLY', refused(400, 100)],
    ['META_UNEXPECTED_REPLY', json(200, { data: [{ id: 106540352242922 }] })],
    ['META_PHONE_NOT_IN_WABA', json(200, { data: [] })],
    ['META_PHONE_NOT_IN_WABA', json(200, { data: [{ id: '1' }], paging: { cursors: { before: 'b', after: 'a' } } })],
    ['META_UNEXPECTED_REPLY', json(200, { data: [{ id: '1' }], paging: { next: 'http://127.0.0.1:1/' } })]
  ]]
]

for (const [name, call, rows] of tables) {
  await test(`${name}: what each reply of Meta's becomes`, async t => {
    await Promise.all([...anyCall, ...rows].map(async ([expected, answer], i) => {
      t.equal(await failure(t, answer, call), expected, `row ${i}`)
    }))
  })
}
