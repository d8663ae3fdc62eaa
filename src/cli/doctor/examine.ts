import { createAppInfo } from '../../meta/apps/app-info.js'
import { createOutbound } from '../../outbound/outbound.js'
import type { Env } from '../../settings/env.js'
import { checkAtMeta, NO_APP, platformApp } from './app.js'
import { checkNames, listChecks, skippedFor, type Check, type Findings } from './checks.js'
import { checkDatabase } from './database.js'
import { checkKeys } from './keys.js'
import { checkLoginConfig, checkRedirectUris } from './logins.js'
import { checkSettings } from './settings.js'
import { checkVerifyToken } from './webhook.js'

/** Makes all checks. Changes nothing: no file, no row, no setting at Meta. */
export async function examine (): Promise<Check[]> {
  const { settings, env } = await checkSettings()
  if (env === null) {
    return checkNames.map((name) => ({ name, ...name === 'settings' ? settings : skippedFor('settings') }))
  }
  const { fetch, close } = createOutbound({ proxy: env.HTTPS_PROXY, noProxy: env.NO_PROXY })
  const info = createAppInfo({
    baseUrl: env.GRAPH_API_BASE_URL, version: env.GRAPH_API_VERSION, timeoutMs: env.GRAPH_TIMEOUT_MS, fetch
  })
  const [stored, atMeta] = await Promise.all([checkStored(env), checkAtMeta(env, info)]).finally(close)
  const hasApp = platformApp(env) !== null
  return listChecks({
    settings,
    ...stored,
    ...atMeta,
    webhook_verify_token: hasApp ? checkVerifyToken(env) : NO_APP,
    oauth_redirect_uris: checkRedirectUris(env),
    login_config: hasApp ? checkLoginConfig(env) : NO_APP
  })
}

async function checkStored (env: Env): Promise<Pick<Findings, 'database' | 'keys'>> {
  const { database, url } = await checkDatabase(env)
  return { database, keys: url === null ? skippedFor('database') : await checkKeys(env, url) }
}
