import pg from 'pg'
import { canary } from './canaries.js'
import { useEveryOperation } from './every-operation.js'
import { breakDatabase, CONFIG, secrets, type Send } from './database-faults.js'
import { exchange, type Answer } from './misplaced.js'
import type { OwnPostgres } from '../fixtures/postgres/own-postgres.js'
import { query } from '../helper.js'
import { GraphError } from '../graph/errors.js'
import type { Fault, Route } from '../graph/faults.js'
import type { Graph } from '../graph/server.js'
import { now } from '../graph/state.js'

const ONBOARD = '/api/v1/tenant/onboard/whatsapp-client'

interface Setup {
  origin: string
  /** The authorization header's value for a tenant. */
  bearer: (tenantId: string) => string
  postgres: OwnPostgres
  meta: Graph
  app: { app_id: string, app_secret: string }
  /** WEBHOOK_VERIFY_TOKEN */
  verifyToken: string
  /** Receives every answer. */
  onAnswer: (answer: Answer) => void
  /** Called during each fault of the database. */
  meanwhile?: () => Promise<void>
}

/** Sends secrets through every use and every error of the service. */
export async function useSecrets (
  { origin, bearer, postgres, meta, app, verifyToken, onAnswer, meanwhile = async () => {} }: Setup
): Promise<void> {
  const send: Send = async (tenantId, method, path, body, more) => {
    const headers = { authorization: bearer(tenantId), ...(body && { 'content-type': 'application/json' }), ...more }
    const answer = await exchange(origin, { method, path, headers, body: body && JSON.stringify(body) })
    onAnswer(answer)
    return answer
  }

  await storeAndRead(send)
  await useEveryOperation({ send, meta, app, verifyToken })
  await causeRefusalsOfMeta(send, meta, app)
  await overfillQueue(send, postgres.url)
  await readUnreadable(send, postgres.url)
  await breakDatabase(send, postgres, meanwhile)
}

async function storeAndRead (send: Send): Promise<void> {
  const first = secrets()
  await send('first', 'POST', CONFIG, first)
  await send('first', 'POST', CONFIG, secrets())
  await send('second', 'POST', CONFIG, { ...secrets(), phone_number_id: first.phone_number_id })
  await send('second', 'POST', CONFIG, { ...secrets(), access_token: `****${canary('masked')}` })
  const again = { 'idempotency-key': canary('idempotency_key') }
  for (const end of ['1', '2']) {
    await send('second', 'POST', CONFIG, { ...secrets(), access_token: `****${canary('masked')}${end}` }, again)
  }
  await send('second', 'POST', CONFIG, secrets())
  await send('second', 'PUT', CONFIG, { ...secrets(), phone_number_id: first.phone_number_id })
  await send('second', 'PUT', CONFIG, secrets())
  await send('second', 'PUT', CONFIG, secrets(), { 'if-match': `"${canary('if_match')}"` })
  await send('second', 'GET', `${CONFIG}/full`, undefined, { 'if-none-match': '*' })
  for (const path of ['', '/full', '/effective', '/activate', '/deactivate', '/effective']) {
    await send('second', path.endsWith('activate') ? 'POST' : 'GET', CONFIG + path)
  }
  for (const path of ['', '/1', '/previous', '/999']) await send('second', 'GET', `${CONFIG}/versions${path}`)
  for (const path of ['1', 'previous']) await send('second', 'POST', `${CONFIG}/versions/${path}/restore`)
  const confirmations = ['', '?confirm=', `?confirm=${canary('confirmation')}`, '?confirm=delete-all:9999']
  for (const query of confirmations) await send('second', 'DELETE', `/api/v1/tenant/admin/configs/delete-all${query}`)
  for (const path of ['all', 'all?limit=1', 'stats', 'effective/first', 'effective/second', 'effective/nobody']) {
    await send('second', 'GET', `/api/v1/tenant/admin/configs/${path}`)
  }
  for (const body of [{ tenant_id: 'second' }, { batch_id: '6f1f6ad8-5f0c-4b0e-8f43-0d6b0f1a2b3c' }]) {
    await send('second', 'POST', '/api/v1/tenant/admin/configs/restore', body)
  }
  await send('second', 'GET', '/api/v1/tenant/admin/service-keys')
  await send('second', 'DELETE', `/api/v1/tenant/admin/service-keys/${'0'.repeat(20)}`)
  await send('second', 'GET', '/api/v1/tenant/admin/events')
  await send('second', 'POST', '/api/v1/tenant/admin/events/6f1f6ad8-5f0c-4b0e-8f43-0d6b0f1a2b3c/redeliver')
}

async function causeRefusalsOfMeta (send: Send, meta: Graph, app: Setup['app']): Promise<void> {
  const { code, token, onboard } = login(send, meta, app)
  // Every value that Meta received or granted, quoted in its errors.
  const quoted = `${code} ${token} ${app.app_secret} ${encodeURIComponent(`${app.app_id}|${app.app_secret}`)}`
  const reply = (status: number, headers: Record<string, string>, body: unknown): Fault => ({
    reply: { status, headers, body: JSON.stringify(body) }
  })
  const refusals = [36009, 36007, 36008, quoted].map((subcode) => ({
    reply: new GraphError(400, 100, quoted, { error_subcode: subcode, error_user_msg: quoted, error_data: { quoted } })
  }))
  const errors = [1, 2, 10, 33, 101, 190, 191, 200, 12345].map((number) => ({
    reply: new GraphError(400, number, quoted, { fbtrace_id: quoted })
  }))
  const wire = [
    reply(502, { 'content-type': 'text/html', 'facebook-api-version': quoted }, quoted),
    reply(200, {}, { access_token: [quoted], data: quoted }),
    reply(400, {}, { error: { code: quoted, message: quoted } }),
    reply(400, {}, { error: { code: 100, message: quoted, fbtrace_id: token } }),
    reply(302, { location: `${meta.url}/?access_token=${token}` }, quoted),
    { reply: { status: 200, body: `{"access_token":"${token}` } },
    { drop: true },
    { latency_ms: 60_000 }
  ]
  for (const route of ['access_token', 'debug_token', 'phone_numbers', 'subscribe', 'override', 'register'] as const) {
    for (const fault of [...refusals, ...errors, ...wire]) await onboard(route, fault)
  }
  await onboard(
    'debug_token',
    { patch: { data: { is_valid: false, error: { message: quoted, code: quoted, subcode: quoted } } } }
  )
  await onboard('phone_numbers', reply(200, {}, { data: [] }))
  await onboard('businesses', { reply: new GraphError(403, 200, quoted) }, { waba_id: undefined }, 'third')
  await onboard('phone_numbers', reply(200, {}, { data: [{ id: '1' }, { id: '2' }] }), { phone_number_id: undefined },
    'third')
  await onboard('phone_numbers', reply(200, {}, { data: [{ id: '1' }, { id: '2' }] }), { phone_number_id: undefined })
  await onboard('override', { reply: new GraphError(400, 2200, quoted) })
  await onboard('register', { reply: new GraphError(400, 133005, quoted) })
  await send('first', 'PUT', CONFIG, { access_token: canary('access_token') })
  await send('first', 'POST', `${ONBOARD}/resume`, { pin: '123456' })
  await send('first', 'PUT', CONFIG, { callback_url: 'https://a.example/'.padEnd(201, 'x') })
  await onboard('access_token', {})
  await send('first', 'PUT', CONFIG, { callback_url: null })
  await onboard('access_token', { patch: { access_token: token } })
  await onboard('access_token', { patch: { access_token: token } }, {}, 'second')
  meta.fail('unsubscribe', { reply: new GraphError(400, 190, quoted) })
  await send('first', 'DELETE', `${CONFIG}?unsubscribe=true`)
  await send('first', 'POST', ONBOARD, {
    code: canary('unknown_code'),
    waba_id: '1',
    phone_number_id: canary('phone').slice(-9),
    state: canary('state')
  })
  for (const uri of ['https://a.example/cb', 'https://b.example/cb']) {
    await send('first', 'POST', `${ONBOARD}/start`, { redirect_uri: uri })
  }
  await send('first', 'POST', `${ONBOARD}/start`, {
    redirect_uri: `https://a.example/?${canary('redirect_uri')}`,
    config_id: canary('config_id')
  })
  // The rate limit of the app comes last: it stops all calls for some minutes.
  await onboard('phone_numbers', { reply: new GraphError(400, 4, quoted, { fbtrace_id: quoted }) })
  await send('first', 'POST', '/api/v1/tenant/onboard/account-update', { entry: [canary('entry')] })
  await send(
    'first',
    'GET',
    `/api/v1/tenant/onboard/account-update?hub.mode=subscribe&hub.challenge=1&hub.verify_token=${canary('hub')}`
  )
}

/** Logins at Meta whose codes and tokens are canaries. */
function login (send: Send, meta: Graph, app: Setup['app']) {
  const [code, token] = [canary('code'), canary('granted_token')]
  const waba = meta.state.addWaba({ app_ids: [app.app_id] })
  const issued = meta.state.tokens.get(meta.state.issueToken({ app_id: app.app_id }))
  const entry = meta.state.codes.get(meta.state.issueCode({ app_id: app.app_id }))
  if (!issued || !entry) throw new Error('the stand-in lost what it issued')
  meta.state.tokens.set(token, issued)
  return {
    code,
    token,
    async onboard (route: Route, fault: Fault, claims: object = {}, tenantId = 'first'): Promise<void> {
      const code = canary('code')
      meta.state.codes.set(code, { ...entry, issued_at: now(), used: false })
      if (route === 'override') await send('first', 'PUT', CONFIG, { callback_url: 'https://a.example/' })
      if (route !== 'access_token') meta.fail('access_token', { patch: { access_token: token } })
      meta.fail(route, fault)
      await send(tenantId, 'POST', ONBOARD, {
        code,
        waba_id: waba.id,
        phone_number_id: String(waba.phones[0]?.id),
        pin: '123456',
        ...claims
      })
      await send('first', 'GET', ONBOARD)
      meta.clearFaults()
      if (route === 'override') await send('first', 'PUT', CONFIG, { callback_url: null })
    }
  }
}

/** Sends one request more than can run and wait at a time, while none of them ends. */
async function overfillQueue (send: Send, url: string): Promise<void> {
  const lockHolder = new pg.Client({ connectionString: url })
  await lockHolder.connect()
  await lockHolder.query('begin; lock table oauth_states')
  const start = async () => await send('first', 'POST', `${ONBOARD}/start`, { redirect_uri: 'https://a.example/cb' })
  const answers = Array.from({ length: 56 }, start)
  await Promise.race(answers)
  await lockHolder.end()
  await Promise.all(answers)
}

async function readUnreadable (send: Send, url: string): Promise<void> {
  await send('tampered', 'POST', CONFIG, secrets())
  await query(
    url,
    "update tenant_configs set access_token = verify_token, fb_app_id = '1', fb_app_secret = verify_token where " +
      "tenant_id = 'tampered'"
  )
  for (const path of ['', '/full', '/effective']) await send('tampered', 'GET', CONFIG + path)
  await send('tampered', 'PUT', CONFIG, { refresh_token: canary('refresh_token') })
  await send('tampered', 'PUT', CONFIG, { access_token: canary('access_token') })
  await send('tampered', 'POST', ONBOARD, { code: canary('code'), waba_id: '1', phone_number_id: '1' })
}
