import type { Env } from '../../settings/env.js'
import { failed, ok, warning, type Finding } from './checks.js'

const LOGIN = 'App Dashboard > Facebook Login for Business'

/** Checks that Meta accepts the redirect URIs: https only, or http on this machine while the app is in development. */
export function checkRedirectUris ({ OAUTH_REDIRECT_URIS, NODE_ENV }: Env): Finding {
  const isProduction = NODE_ENV === 'production'
  if (OAUTH_REDIRECT_URIS === undefined) {
    return isProduction
      ? warning(
        'OAUTH_REDIRECT_URIS is not set: every login by redirect is refused; the popup works.',
        `For logins by redirect set it, and enter the same URLs under ${LOGIN} > Settings > Valid OAuth Redirect URIs.`
      )
      : ok('OAUTH_REDIRECT_URIS is not set: outside of production any redirect_uri is accepted.')
  }
  const uris = OAUTH_REDIRECT_URIS.split(',').map((uri) => uri.trim())
  const insecure = uris.filter((uri) => new URL(uri).protocol !== 'https:').length
  if (insecure === 0) return ok('Every URL in OAUTH_REDIRECT_URIS is https.')
  const detail = `OAUTH_REDIRECT_URIS has http URLs (${insecure} of ${uris.length}).`
  const fix = `Use https, here and under ${LOGIN} > Settings > Valid OAuth Redirect URIs.`
  return isProduction ? failed(detail, fix) : warning(`${detail} Meta takes them while the app is in development.`, fix)
}

/** Checks that a login without a `config_id` of its own has one. */
export function checkLoginConfig ({ FB_LOGIN_CONFIG_ID }: Env): Finding {
  return FB_LOGIN_CONFIG_ID !== undefined
    ? ok('FB_LOGIN_CONFIG_ID is set.')
    : warning(
      'FB_LOGIN_CONFIG_ID is not set: a login by redirect must name its config_id.',
      `Set it to the id under ${LOGIN} > Configurations.`
    )
}
