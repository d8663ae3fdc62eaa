import { createHash, randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { consumeState, insertState, type StateOwner } from './oauth-states.sql.js'
import type { Db } from './onboardings.sql.js'
import { deleteSurplusStates } from '../retention/retention.sql.js'
import { OauthStateInvalid, RedirectUriNotAllowed, ValidationFailed } from '../errors.js'
import { mapDatabaseErrors } from '../database/database.js'
import type { Env } from '../settings/env.js'
import type { MetaApps } from '../meta/apps.js'
import type { TenantConfigs } from '../tenant-configs/tenant-configs.js'

declare module 'fastify' {
  interface FastifyInstance { oauthLogin: OauthLogin }
}

export type OauthLogin = ReturnType<typeof createOauthLogin>

/** Where the login dialog is to send the customer back to, and its configuration at Meta. */
export interface LoginInput { redirect_uri?: string | undefined, config_id?: string | undefined }

const DIALOG = 'https://www.facebook.com'
const SCOPE = 'whatsapp_business_management,whatsapp_business_messaging'

/** Begins logins at Meta, and recognises what comes back from them (RFC 9700, section 2.1 and 4.7). */
export function createOauthLogin ({ orm, env, tenantConfigs, metaApps, log }: {
  orm: NodePgDatabase
  env: Env
  tenantConfigs: Pick<TenantConfigs, 'find'>
  metaApps: MetaApps
  log: Pick<FastifyInstance['log'], 'warn'>
}) {
  const allowed = env.OAUTH_REDIRECT_URIS?.split(',').map((uri) => uri.trim())

  /** Throws `REDIRECT_URI_NOT_ALLOWED` unless `OAUTH_REDIRECT_URIS` has exactly this; without a list, only production refuses. */
  function assertRedirectUri (redirectUri: string | undefined): void {
    if (redirectUri === undefined) return
    if (allowed === undefined ? env.NODE_ENV === 'production' : !allowed.includes(redirectUri)) throw new RedirectUriNotAllowed()
  }

  return {
    assertRedirectUri,

    /**
     * Begins a login, and ends the tenant's oldest one when it has more than 20 that are open: returns the URL of Meta's dialog, the state that has to come back from it within 10 minutes, and until when
     * (ISO 8601 UTC). The redirect URI is the one given, else the row's, else `REDIRECT_URL`.
     * Throws `VALIDATION_FAILED` without any, `REDIRECT_URI_NOT_ALLOWED`, `META_APP_NOT_CONFIGURED`, `SECRET_UNREADABLE`, `DATABASE_UNAVAILABLE`.
     * Source: developers.facebook.com/documentation/facebook-login/guides/advanced/manual-flow
     */
    async start (owner: StateOwner, input: LoginInput) {
      const row = await tenantConfigs.find(owner.tenantId)
      const app = metaApps.of(row)
      const redirectUri = input.redirect_uri ?? row?.redirect_url ?? env.REDIRECT_URL
      if (redirectUri === undefined) throw Object.assign(new ValidationFailed(), { validation: [missing('redirect_uri')] })
      assertRedirectUri(redirectUri)

      const state = randomBytes(32).toString('base64url')
      const [expiresAt] = await mapDatabaseErrors(insertState(orm, hashed(state), owner))
      await mapDatabaseErrors(deleteSurplusStates(orm, owner.tenantId)).catch((err: unknown) => {
        log.warn({ err, tenant_id: owner.tenantId }, 'surplus logins could not be deleted; the next login of the tenant tries again')
      })
      const config = input.config_id ?? env.FB_LOGIN_CONFIG_ID
      const url = new URL(`${DIALOG}/${env.GRAPH_API_VERSION}/dialog/oauth`)
      url.search = String(new URLSearchParams({
        client_id: app.id,
        redirect_uri: redirectUri,
        state,
        response_type: 'code',
        // A configuration of Facebook Login for Business replaces the scope, and needs to be told to give a code.
        ...(config === undefined ? { scope: SCOPE } : { config_id: config, override_default_response_type: 'true' })
      }))
      return { authorization_url: url.href, state, expires_at: expiresAt }
    },

    /** Throws `OAUTH_STATE_INVALID` when a state is required and there is none. */
    assertStateGiven (state: string | undefined): void {
      if (state === undefined && env.OAUTH_STATE === 'required') throw new OauthStateInvalid()
    },

    /** Uses up the state of a login, in the transaction that begins its onboarding. Throws `OAUTH_STATE_INVALID` when it is not the owner's, used or expired. */
    async consume (tx: Db, state: string, owner: StateOwner): Promise<void> {
      if (!await consumeState(tx, hashed(state), owner)) throw new OauthStateInvalid()
    }
  }
}

const missing = (name: string) => ({ instancePath: '', keyword: 'required', params: { missingProperty: name } })

const hashed = (state: string) => createHash('sha256').update(state).digest('base64url')

/** Decorates `fastify.oauthLogin`. */
async function oauthLogin (fastify: FastifyInstance): Promise<void> {
  const { database: { orm }, env, tenantConfigs, metaApps, log } = fastify
  fastify.decorate('oauthLogin', createOauthLogin({ orm, env, tenantConfigs, metaApps, log }))
}

export default fp(oauthLogin, { name: 'oauth-login', dependencies: ['env', 'database', 'tenant-configs', 'meta-apps'] })
