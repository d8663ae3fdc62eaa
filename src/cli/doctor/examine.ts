import { createAppInfo } from '../../meta/apps/app-info.js'
import { createOutbound, type Fetch } from '../../outbound/outbound.js'
import type { Env } from '../../settings/env.js'
import { checkAtMeta, NO_APP, platformApp } from './app.js'
import { checkNames, listChecks, skippedFor, type Check, type Findings } from './checks.js'
import { checkDatabase } from './database.js'
import { checkKeys, checkWrappedKeys } from './keys.js'
import { checkLoginConfig, checkRedirectUris } from './logins.js'
import { checkSettings } from './settings.js'
import { checkVerifyToken } from './webhook.js'

/** Makes all checks. Changes nothing: no file, no row, no setting at Meta. */
export async function examine (): Promise<Check[]> {
  const { settings, env } = await checkSettings()
  if (env === null) {
    return checkNames.map((name) => ({ name, ...name === 'settings' ? settings : skippedFor('settings') }))
  }
  const { fetch, close } = await createOutbound({ proxy: env.HTTPS_PROXY, noProxy: env.NO_PROXY })
  const info = createAppInfo({
    baseUrl: env.GRAPH_API_BASE_URL, version: env.GRAPH_API_VERSION, timeoutMs: env.GRAPH_TIMEOUT_MS, fetch
  })
  const [stored, atMeta] = await Promise.all([checkStored(env, fetch), checkAtMeta(env, info)]).finally(close)
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

async function checkStored (env: Env, fetch: Fetch): Promise<Pick<Findings, 'database' | 'wrapped_keys' | 'keys'>> {
  const [{ database, url }, { wrapped, vault }] = await Promise.all([checkDatabase(env), checkWrappedKeys(env, fetch)])
  const findings = { database, wrapped_keys: wrapped }
  if (url === null) return { ...findings, keys: skippedFor('database') }
  return { ...findings, keys: vault === null ? skippedFor('wrapped_keys') : await checkKeys(vault, url) }
}
