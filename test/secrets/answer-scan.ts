import Fastify from 'fastify'
import type { Test } from 'tap'
import plugin, { type EnvSource } from '../../src/app.js'
import { canary, canaryKey, scanner } from './canaries.js'
import { exchange, misplaced, sendRaw, type Answer, type Route } from './misplaced.js'
import { KEYS, RESOLVE } from './every-operation.js'
import { receiver } from '../events/event-receiver.js'
import { ownPostgres } from '../fixtures/postgres/own-postgres.js'
import { query } from '../helper.js'
import { useSecrets } from './secret-uses.js'
import { signed } from '../fixtures/server-process.js'
import { startGraph } from '../graph/server.js'

export const FULL = '/api/v1/tenant/config/full'
/** PostgreSQL logs each statement with its parameters, and each that fails. */
const LOG_ALL = Object.entries({
  log_statement: 'all',
  log_min_duration_statement: '0',
  log_parameter_max_length: '-1',
  log_parameter_max_length_on_error: '-1',
  log_min_error_statement: 'error',
  log_min_messages: 'info',
  log_error_verbosity: 'verbose'
}).map(([name, value]) => `alter database wtc set ${name} = '${value}'`).join(';')
const EFFECTIVE = '/api/v1/tenant/admin/configs/effective/'

/** Starts PostgreSQL and a stand-in of Meta. `env` are the settings of a service that uses them. */
export async function answerScan (t: Test) {
  const postgres = await ownPostgres(t)
  const meta = await startGraph()
  t.teardown(meta.close)
  const app = meta.state.addApp({ app_secret: canary('FB_APP_SECRET') })
  await query(postgres.url, LOG_ALL)
  const events = await receiver(t)
  const records = await receiver(t)
  const env = {
    NODE_ENV: 'test',
    LOG_LEVEL: 'trace',
    TRUST_PROXY: 'true',
    DATABASE_URL: postgres.url,
    JWT_SECRET: canary('JWT_SECRET'),
    ENCRYPTION_KEYS: `k2:${canaryKey()},k1:${canaryKey()}`,
    GRAPH_API_BASE_URL: meta.url,
    // Short, because some calls must time out; long enough for an answer on a busy machine.
    GRAPH_TIMEOUT_MS: '1500',
    WHATSAPP_TOKEN: canary('WHATSAPP_TOKEN'),
    VERIFY_TOKEN: canary('VERIFY_TOKEN'),
    WEBHOOK_VERIFY_TOKEN: canary('WEBHOOK_VERIFY_TOKEN'),
    OAUTH_REDIRECT_URIS: 'https://a.example/cb',
    FB_APP_ID: app.app_id,
    FB_APP_SECRET: app.app_secret,
    METRICS_PORT: '0',
    EVENTS_WEBHOOK_URL: events.url,
    EVENTS_WEBHOOK_SECRET: canary('EVENTS_WEBHOOK_SECRET'),
    AUDIT_STREAM: records.url,
    AUDIT_STREAM_SECRET: canary('AUDIT_STREAM_SECRET')
  }

  /** A token that gives access to all routes. */
  const token = (tenantId: string) => signed({ tenant_id: tenantId, role: 'admin' }, env.JWT_SECRET)
  const tokens = new Map(['first', 'second', 'third', 'complete', 'tampered', 'misplaced'].map((id) => [id, token(id)]))
  const bearer = (tenantId: string) => `Bearer ${tokens.get(tenantId)}`
  /** Tokens that are refused, but are secrets as well. */
  const refused = [
    {}, { tenant_id: canary('claim').repeat(2) }, { tenant_id: 'x', sub: 7 }, { tenant_id: 'x', exp: 1 }
  ].map((claims) => signed(claims, env.JWT_SECRET))
  const signatures = [...tokens.values(), ...refused].map((token, i) => [`token ${i}`, token.split('.')[2] ?? ''])
  const leaks = scanner({ 'database password': postgres.password, ...Object.fromEntries(signatures) })

  const routes = await routesOf(t, env)
  /** The method and path of each request that succeeded. */
  const used = new Set<string>()
  /** The error codes of all answers. */
  const codes = new Set<string>()
  const addCode = (problem: string) => codes.add(/"code":"(\w+)"/.exec(problem)?.[1] ?? '')

  /** Sends secrets to right and wrong places of a service, and returns the leaks in its answers. */
  async function leaksInAnswers (origin: string, meanwhile?: () => Promise<void>): Promise<string[]> {
    const found: string[] = []
    function scan ({ sent, status, whole, body }: Answer): void {
      let shown = whole
      if (sent.path === FULL && status === 200 && sent.method === 'GET') {
        // The only answer that shows secrets: those of the tenant of the sent token.
        const config: Record<string, unknown> = JSON.parse(body)
        if (sent.headers?.['authorization'] !== bearer(String(config['tenant_id']))) {
          found.push('a configuration of another tenant')
        }
        for (const name of ['access_token', 'fb_app_secret', 'verify_token', 'refresh_token']) {
          shown = shown.replace(`"${config[name]}"`, '')
        }
      }
      if (sent.path === KEYS && status === 201) {
        // The only answer that shows the key.
        const { key } = JSON.parse(body)
        leaks.add('a service key', key.slice(-43))
        shown = shown.replace(`"key":"${key}"`, '')
      }
      if (sent.path.startsWith(RESOLVE) && status === 200) {
        // What a service key is for.
        const { values = {} } = JSON.parse(body)
        for (const value of Object.values(values)) shown = shown.replace(`"${value}"`, '')
      }
      // This answer repeats the tenant id to the admin who sent it.
      if (sent.path.startsWith(EFFECTIVE) && status === 200) {
        shown = shown.replace(`"tenant_id":"${decodeURIComponent(sent.path.slice(EFFECTIVE.length))}"`, '')
      }
      found.push(...leaks(`${status} of ${sent.method} ${sent.path}`, shown))
      if (status >= 400) addCode(body)
      else used.add(`${sent.method} ${sent.path.split('?')[0]}`)
    }
    await useSecrets({
      origin, bearer, postgres, meta, app, verifyToken: env.WEBHOOK_VERIFY_TOKEN, onAnswer: scan, meanwhile
    })
    for (const route of routes) {
      const requests = misplaced(route, bearer('misplaced'), refused.map((token) => `Bearer ${token}`))
      for (const answer of await Promise.all(requests.map(async (sent) => await exchange(origin, sent)))) scan(answer)
    }
    for (const head of [
      canary('raw'),
      `GET /${canary('raw')} HTTP/9.9`,
      `GET / HTTP/1.1\r\n${canary('raw')}`,
      `GET / HTTP/1.1\r\nx: ${canary('raw').repeat(1000)}`,
      `GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nexpect: ${canary('raw')}`
    ]) {
      const answer = await sendRaw(origin, `${head}\r\n\r\n`)
      found.push(...leaks('the answer to invalid HTTP', answer))
      addCode(answer)
    }
    return found
  }

  return { env, postgres, bearer, leaks, codes, used, leaksInAnswers, deliveries: { events, records } }
}

/** All routes, including those of the documents and those that Fastify adds. */
async function routesOf (t: Test, env: EnvSource): Promise<Route[]> {
  const routes: Route[] = []
  const fastify = Fastify()
  t.teardown(async () => { await fastify.close() })
  fastify.addHook(
    'onRoute',
    ({ method, url }) => { routes.push(...[method].flat().map((method) => ({ method, url }))) }
  )
  await fastify.register(plugin, { env })
  await fastify.ready()
  return routes
}
