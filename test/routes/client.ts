import assert from 'node:assert/strict'
import { STATUS_CODES } from 'node:http'
import type { InjectOptions, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import type { EnvSource } from '../../src/app.js'
import { buildTestApp, queries } from '../helper.js'

export const base = '/api/v1/tenant'
export const config = `${base}/config`
export const configs = `${base}/admin/configs`
export const resolve = `${base}/resolve`
export const serviceKeys = `${base}/admin/service-keys`
export const onboard = `${base}/onboard/whatsapp-client`

export const columns = [
  'id', 'tenant_id', 'user_id', 'waba_id', 'phone_number_id', 'access_token', 'fb_app_id', 'fb_app_secret',
  'callback_url', 'redirect_url',
  'verify_token', 'token_expires_at', 'refresh_token', 'is_active', 'onboarding_completed', 'onboarded_at',
  'last_verified_at', 'created_at', 'updated_at'
]

/** Every writable field, with values that an answer returns unchanged. */
export const full = {
  waba_id: 'waba-1',
  phone_number_id: 'phone-1',
  access_token: 'EAAG-access-token-0001',
  fb_app_id: 'app-1',
  fb_app_secret: 'fb-app-secret-000002',
  callback_url: 'https://acme.example/hook?a=b',
  redirect_url: 'http://localhost:3000/done',
  verify_token: 'short',
  token_expires_at: '2030-01-02T03:04:05.678000Z',
  refresh_token: 'refresh-token-000003'
}

type Json = Record<string, unknown>
export type Who = Record<string, string>

export interface Answer {
  /** Status and code in one: `200`, `404 CONFIG_NOT_FOUND`. */
  is: string
  body: Json
  headers: LightMyRequestResponse['headers']
}

/**
 * The service without Meta, and a client for it. The client asserts of every answer what the contract says of all
 * answers.
 */
export async function client (t: Test, env?: EnvSource) {
  const { app, as, admin, databaseUrl, log } = await buildTestApp(t, {
    GRAPH_API_BASE_URL: 'http://127.0.0.1:1',
    ...env
  })
  const sql = queries(t, databaseUrl)
  /** Sends a request. An object becomes JSON; text and bytes are sent unchanged, with the given headers. */
  async function call (who: Who, method: string, url: string, body?: unknown, headers: Who = {}): Promise<Answer> {
    const raw = typeof body === 'string' || Buffer.isBuffer(body)
    const request: InjectOptions = {
      url,
      headers: { ...(body === undefined || raw ? {} : { 'content-type': 'application/json' }), ...headers, ...who }
    }
    if (body !== undefined) request.payload = raw ? body : JSON.stringify(body)
    // The type declares only the common methods.
    return checked(url, await app.inject(Object.assign(request, { method })))
  }
  return {
    app,
    as,
    admin,
    databaseUrl,
    log,
    call,
    sql,
    /** All stored rows. */
    rows: async () => await sql('select * from tenant_configs order by id')
  }
}

export type Client = Awaited<ReturnType<typeof client>>

/** The challenges of a code; `error_description` is of the fixed list, in plain words. */
function challengeOf (code: string): RegExp {
  if (code === 'SIGNATURE_INVALID') return /^HMAC-SHA256$/
  if (code === 'SCOPE_MISSING') return /^Bearer error="insufficient_scope", scope="[^"\\ ]+"$/
  return /^Bearer( error="invalid_token", error_description="[A-Z][a-z ]+")?$/
}

const isToBeRetried = (status: number, code: unknown) =>
  status === 503 || status === 429 || code === 'IDEMPOTENCY_IN_PROGRESS'

function checked (url: string, { statusCode, headers, body: text }: LightMyRequestResponse): Answer {
  const body: Json = text === '' ? {} : JSON.parse(text)
  if (url.startsWith(base)) assert.equal(headers['cache-control'], 'no-store', url)
  const isConfig = 'tenant_id' in body && !('decision' in body || 'next_attempt_at' in body || 'version' in body ||
    'sources' in body)
  if (isConfig) {
    assert.deepEqual(Object.keys(body), columns)
    assert.match(String(headers.etag), new RegExp(`^"${Number(body['id'])}-[1-9]\\d*"$`))
  }
  if (statusCode < 400) return { is: String(statusCode), body, headers }
  // Until Meta allows calls again; an answer from a record uses the longest block without a known end.
  if (body['code'] === 'META_RATE_LIMITED') assert.match(String(headers['retry-after']), /^[1-9]\d{0,4}$/)
  else assert.equal(headers['retry-after'], isToBeRetried(statusCode, body['code']) ? '5' : undefined)
  const isChallenged = statusCode === 401 || body['code'] === 'SCOPE_MISSING'
  if (isChallenged) assert.match(String(headers['www-authenticate']), challengeOf(String(body['code'])))
  else if (text !== '') assert.equal(headers['www-authenticate'], undefined)
  assert.equal(headers['content-type'], 'application/problem+json')
  if (text === '') return { is: String(statusCode), body, headers }
  const { detail, code, request_id: id, errors, confirm, phone_numbers: phones } = body
  assert.deepEqual({ ...body, errors, confirm, phone_numbers: phones }, {
    type: 'about:blank',
    title: STATUS_CODES[statusCode],
    status: statusCode,
    detail,
    code,
    request_id: id,
    errors,
    confirm,
    phone_numbers: phones
  })
  assert.equal(Array.isArray(errors), code === 'VALIDATION_FAILED')
  assert.equal(typeof confirm === 'string', code === 'CONFIRMATION_REQUIRED')
  assert.equal(Array.isArray(phones), ['META_PHONE_CHOICE_REQUIRED', 'META_NUMBER_CHANGED'].includes(String(code)))
  for (const word of [detail, code, id]) assert.ok(typeof word === 'string' && word !== '')
  return { is: `${statusCode} ${String(code)}`, body, headers }
}
