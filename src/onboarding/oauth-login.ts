import { createHash, randomBytes } from 'node:crypto'
import type { FastifyBaseLogger } from 'fastify'
import type { Queryable } from '../database/statement.js'
import { OauthStateInvalid, RedirectUriNotAllowed, ValidationFailed } from '../errors.js'
import type { MetaGraph } from '../meta/meta-graph.js'
import type { Env } from '../settings/env.js'
import type { TenantConfigs } from '../tenant-configs/tenant-configs.js'
import { consumeState, deleteSurplusStates, insertState, type StateOwner } from './oauth-states.sql.js'

export type OauthLogin = ReturnType<typeof createOauthLogin>

/** The URL that the login dialog redirects to, and the configuration of the login at Meta. */
export interface LoginInput { redirect_uri?: string | undefined, config_id?: string | undefined }

const DIALOG = 'https://www.facebook.com'
const SCOPE = 'whatsapp_business_management,whatsapp_business_messaging'

interface OauthLoginDependencies {
  database: Queryable
  env: Env
  tenantConfigs: Pick<TenantConfigs, 'find'>
  metaGraph: Pick<MetaGraph, 'appOf'>
  log: Pick<FastifyBaseLogger, 'warn'>
}

/** Begins logins at Meta, and checks the states that return from them (RFC 9700, sections 2.1 and 4.7). */
export function createOauthLogin ({ database, env, tenantConfigs, metaGraph, log }: OauthLoginDependencies) {
  const allowed = env.OAUTH_REDIRECT_URIS?.split(',').map((uri) => uri.trim())

  return {
    assertRedirectUri,

    /**
     * Begins a login, and ends the tenant's oldest one when more than 20 are open. The redirect URI is that of the
     * input, else of the row, else `REDIRECT_URL`.
     * Source: developers.facebook.com/documentation/facebook-login/guides/advanced/manual-flow
     *
     * @returns the URL of Meta's dialog, the state that must return from it, and its expiry in 10 minutes (ISO 8601
     * UTC)
     * @throws `VALIDATION_FAILED` without a redirect URI, `REDIRECT_URI_NOT_ALLOWED`, `META_APP_NOT_CONFIGURED`,
     * `SECRET_UNREADABLE`, `DATABASE_UNAVAILABLE`
     */
    async start (owner: StateOwner, input: LoginInput) {
      const row = await tenantConfigs.find(owner.tenantId)
      const app = metaGraph.appOf(row)
      const redirectUri = input.redirect_uri ?? row?.redirect_url ?? env.REDIRECT_URL
      if (redirectUri === undefined) {
        throw Object.assign(new ValidationFailed(), { validation: [missing('redirect_uri')] })
      }
      assertRedirectUri(redirectUri)

      const state = randomBytes(32).toString('base64url')
      const expiresAt = await insertState(database, hashed(state), owner)
      await deleteSurplusStates(database, owner.tenantId).catch((err: unknown) => {
        log.warn({ err, tenant_id: owner.tenantId },
          'surplus logins could not be deleted; the next login of the tenant tries again')
      })
      const config = input.config_id ?? env.FB_LOGIN_CONFIG_ID
      const url = new URL(`${DIALOG}/${env.GRAPH_API_VERSION}/dialog/oauth`)
      url.search = String(new URLSearchParams({
        client_id: app.id,
        redirect_uri: redirectUri,
        state,
        response_type: 'code',
        // A configuration of Facebook Login for Business replaces the scope; without the override it returns no code.
        ...(config === undefined ? { scope: SCOPE } : { config_id: config, override_default_response_type: 'true' })
      }))
      return { authorization_url: url.href, state, expires_at: expiresAt }
    },

    /** Throws `OAUTH_STATE_INVALID` when a required state is missing. */
    assertStateGiven (state: string | undefined): void {
      if (state === undefined && env.OAUTH_STATE === 'required') throw new OauthStateInvalid()
    },

    /**
     * Consumes the state of a login, in the transaction that begins its onboarding. Throws `OAUTH_STATE_INVALID` for a
     * state that is used, expired or another owner's.
     */
    async consume (tx: Queryable, state: string, owner: StateOwner): Promise<void> {
      if (!await consumeState(tx, hashed(state), owner)) throw new OauthStateInvalid()
    }
  }

  /**
   * Throws `REDIRECT_URI_NOT_ALLOWED` for a URI that is not in `OAUTH_REDIRECT_URIS`; without a list, only in
   * production.
   */
  function assertRedirectUri (redirectUri: string | undefined): void {
    if (redirectUri === undefined) return
    const isAllowed = allowed === undefined ? env.NODE_ENV !== 'production' : allowed.includes(redirectUri)
    if (!isAllowed) throw new RedirectUriNotAllowed()
  }
}

const missing = (name: string) => ({ instancePath: '', keyword: 'required', params: { missingProperty: name } })

const hashed = (state: string) => createHash('sha256').update(state).digest('base64url')
