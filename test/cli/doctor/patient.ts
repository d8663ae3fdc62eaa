import type { Test } from 'tap'
import { createDatabase } from '../../helper.js'
import { startGraph } from '../../graph/server.js'
import type { App } from '../../graph/state.js'
import { canary, canaryKey, scanner } from '../../secrets/canaries.js'
import { run } from '../run.js'

export const PUBLIC_URL = 'https://service.example'
export const WEBHOOK_URL = `${PUBLIC_URL}/api/v1/tenant/onboard/account-update`

export interface Checked {
  code: number | null
  /** The status of each check. */
  statuses: Record<string, string>
  /** The detail and the fix of each check. */
  texts: Record<string, string>
}

/** A database, an app at the stand-in of Meta, and settings that are all right. The settings' secrets are canaries. */
export async function startPatient (t: Test, seed: Partial<App> = {}) {
  const graph = await startGraph()
  t.teardown(graph.close)
  const app = graph.state.addApp({
    app_secret: canary('app_secret'),
    require_proof: true,
    callback_url: `${WEBHOOK_URL}?token=${canary('callback')}`,
    ...seed
  })
  const env: Record<string, string> = {
    DATABASE_URL: await createDatabase(t),
    JWT_SECRET: canary('jwt'),
    ENCRYPTION_KEYS: `k1:${canaryKey()}`,
    FB_APP_ID: app.app_id,
    FB_APP_SECRET: app.app_secret,
    GRAPH_API_BASE_URL: graph.url,
    PUBLIC_URL,
    WEBHOOK_VERIFY_TOKEN: canary('verify'),
    OAUTH_REDIRECT_URIS: 'https://app.example/a, https://app.example/b',
    FB_LOGIN_CONFIG_ID: '4711'
  }
  return {
    graph,
    app,
    env,
    /** Runs the command with these settings changed. */
    check: async (changes: Record<string, string> = {}) => await check(t, { ...env, ...changes })
  }
}

/** Runs the command with `--json`. Asserts that it prints that document alone, and no canary. */
export async function check (t: Test, env: Record<string, string>, options = {}): Promise<Checked> {
  const { code, stdout, stderr } = await run(t, ['src/cli/doctor.ts', '--json'], env, options)
  t.equal(stderr, '')
  t.same(scanner({})('output', stdout), [])
  const { ok, checks, ...more }: {
    ok: boolean, checks: Array<{ name: string, status: string, detail: string, fix: string | null }>
  } = JSON.parse(stdout)
  t.same(more, {})
  t.equal(ok, code === 0)
  for (const { status, detail, fix, ...rest } of checks) {
    t.same(Object.keys(rest), ['name'])
    t.notMatch(`${detail}${fix}`, /\n|undefined|\[object/)
    if (status === 'failed' || status === 'warning') t.type(fix, 'string', detail)
  }
  return {
    code,
    statuses: Object.fromEntries(checks.map(({ name, status }) => [name, status])),
    texts: Object.fromEntries(checks.map(({ name, detail, fix }) => [name, `${detail} ${fix ?? ''}`]))
  }
}

/** The statuses of all checks, all `ok` but these. */
export const statuses = (others: Record<string, string> = {}) => ({
  settings: 'ok',
  database: 'ok',
  wrapped_keys: 'ok',
  keys: 'ok',
  meta: 'ok',
  clock: 'ok',
  api_version: 'ok',
  app: 'ok',
  webhook: 'ok',
  webhook_verify_token: 'ok',
  oauth_redirect_uris: 'ok',
  login_config: 'ok',
  ...others
})
