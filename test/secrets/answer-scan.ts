import Fastify from 'fastify'
import type { Test } from 'tap'
import plugin, { type EnvSource } from '../../src/app.js'
import { canary, canaryKey, scanner } from './canaries.js'
import { exchange, misplaced, sendRaw, type Answer, type Route } from './misplaced.js'
import { ownPostgres } from '../fixtures/postgres/own-postgres.js'
import { useSecrets } from './secret-uses.js'
import { signed } from '../fixtures/server-process.js'
import { startGraph } from '../graph/server.js'

export const FULL = '/api/v1/tenant/config/full'
const EFFECTIVE = '/api/v1/tenant/admin/configs/effective/'

/** Starts PostgreSQL and a stand-in of Meta. `env` are the settings of a service that uses them. */
export async function answerScan (t: Test) {
  const postgres = await ownPostgres(t)
  const meta = await startGraph()
  t.teardown(meta.close)
  const app = meta.state.addApp({ app_secret: canary('FB_APP_SECRET') })
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
    FB_APP_SECRET: app.app_secret
  }

  /** A token that gives access to all routes. */
  const token = (tenantId: string) => signed({ tenant_id: tenantId, role: 'admin' }, env.JWT_SECRET)
  const tokens = new Map(['first', 'second', 'third', 'tampered', 'misplaced'].map((id) => [id, token(id)]))
  const bearer = (tenantId: string) => `Bearer ${tokens.get(tenantId)}`
  /** Tokens that are refused, but are secrets as well. */
  const refused = [
    {}, { tenant_id: canary('claim').repeat(2) }, { tenant_id: 'x', sub: 7 }, { tenant_id: 'x', exp: 1 }
  ].map((claims) => signed(claims, env.JWT_SECRET))
  const signatures = [...tokens.values(), ...refused].map((token, i) => [`token ${i}`, token.split('.')[2] ?? ''])
  const leaks = scanner({ 'database password': postgres.password, ...Object.fromEntries(signatures) })

  const routes = await routesOf(t, env)
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
      // This answer repeats the tenant id to the admin who sent it.
      if (sent.path.startsWith(EFFECTIVE) && status === 200) {
        shown = shown.replace(`"tenant_id":"${decodeURIComponent(sent.path.slice(EFFECTIVE.length))}"`, '')
      }
      found.push(...leaks(`${status} of ${sent.method} ${sent.path}`, shown))
      if (status >= 400) addCode(body)
    }
    await useSecrets({ origin, bearer, postgres, meta, app, onAnswer: scan, meanwhile })
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

  return { env, postgres, bearer, leaks, codes, leaksInAnswers }
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
