import type { ConfigKey } from '../schemas/columns.js'
import { deadStatuses, type TokenStatus } from '../schemas/statuses.js'
import type { SealedColumn } from './config-rows.sql.js'

/** The values of a configuration, by the names that internal code knows. `token_expires_at` is ISO 8601 UTC. */
export type ConfigValues = { readonly [key in ConfigKey]: string | null }

/** The source of each value; null where there is no value. */
export type ConfigSources = { readonly [key in ConfigKey]: 'database' | 'env' | null }

/** The secrets that a snapshot opens when they are first asked for. */
export type LateKey = Exclude<SealedColumn, 'access_token'>

/** The values that serve a tenant, with their sources. */
export interface Resolved {
  /** The tenant whose active row serves; null when `.env` does. */
  readonly tenantId: string | null
  /** Whether Meta confirmed the account and the number. */
  readonly isVerified: boolean
  /** The result of the last check of the row's token; null when the row has no token, or `.env` serves. */
  readonly tokenStatus: TokenStatus | null
  /** Those of `LateKey` are sealed where they come from the database. */
  readonly values: ConfigValues
  readonly sources: ConfigSources
  /** Opens a value that is sealed. Throws `SECRET_UNREADABLE`. */
  readonly open: (sealed: string, tenantId: string, key: LateKey) => string
}

/**
 * One tenant's configuration at one moment. It never changes, and does not show its secrets when printed or serialised.
 */
export class ConfigSnapshot {
  // Not the object itself: one object fewer for each tenant in the cache.
  readonly #tenantId: Resolved['tenantId']
  readonly #isVerified: boolean
  readonly #tokenStatus: Resolved['tokenStatus']
  readonly #values: ConfigValues
  readonly #sources: ConfigSources
  readonly #open: Resolved['open']
  readonly #isStale: boolean
  #opened: { [key in LateKey]?: string } | undefined
  #all: ConfigValues | undefined

  constructor ({ tenantId, isVerified, tokenStatus, values, sources, open }: Resolved, isStale: boolean) {
    this.#tenantId = tenantId
    this.#isVerified = isVerified
    this.#tokenStatus = tokenStatus
    this.#values = values
    this.#sources = sources
    this.#open = open
    this.#isStale = isStale
    Object.freeze(this)
  }

  /** The same configuration, marked as one that could not be confirmed. */
  static stale = (snapshot: ConfigSnapshot) => new ConfigSnapshot({
    tenantId: snapshot.#tenantId,
    isVerified: snapshot.#isVerified,
    tokenStatus: snapshot.#tokenStatus,
    values: snapshot.#values,
    sources: snapshot.#sources,
    open: snapshot.#open
  }, true)

  /** The values as they are cached: those of `LateKey` may be sealed. */
  static cachedValues = (snapshot: ConfigSnapshot) => snapshot.#values

  /** The tenant whose active row serves; null when `.env` alone does. */
  getTenantId (): string | null { return this.#tenantId }

  /** Meta's id of the phone number that sends the messages; null without one. */
  getPhoneId (): string | null { return this.#values.phone_id }

  /** The access token in clear, expired or not; null without one. */
  getAccessToken (): string | null { return this.#values.access_token }

  /** The id of the WhatsApp Business Account; null without one. */
  getWabaId (): string | null { return this.#values.waba_id }

  /** Whether an active row of the tenant serves, rather than the `.env` values alone. */
  hasTenantConfig (): boolean { return this.#tenantId !== null }

  /**
   * Whether Meta confirmed the account and the number to the tenant's token. A new token keeps that; `.env` never has
   * it.
   */
  isVerified (): boolean { return this.#isVerified }

  /** Whether the expiry of the access token has passed; a token without one does not expire. */
  isTokenExpired (): boolean {
    const { token_expires_at: expiry } = this.#values
    return expiry !== null && Date.parse(expiry) <= Date.now()
  }

  /**
   * The state of the tenant's own access token; null without one. `expired` once its date has passed, else the result
   * of the last check; `unverified` before the first.
   */
  getTokenStatus (): TokenStatus | null {
    const tokenStatus = this.#tokenStatus
    const isFinal = tokenStatus === null || deadStatuses.includes(tokenStatus)
    return isFinal || !this.isTokenExpired() ? tokenStatus : 'expired'
  }

  /** Whether this was served while the database was down, unconfirmed. */
  isStale (): boolean { return this.#isStale }

  /**
   * The secret of the WhatsApp app; null without one.
   *
   * @throws `SECRET_UNREADABLE`
   */
  getAppSecret (): string | null { return this.#secret('fb_app_secret') }

  /**
   * The text that Meta shows to verify the callback; null without one.
   *
   * @throws `SECRET_UNREADABLE`
   */
  getVerifyToken (): string | null { return this.#secret('verify_token') }

  /**
   * All values, frozen.
   *
   * @throws `SECRET_UNREADABLE`
   */
  getAllConfig (): ConfigValues {
    this.#all ??= Object.freeze({
      ...this.#values,
      fb_app_secret: this.#secret('fb_app_secret'),
      verify_token: this.#secret('verify_token')
    })
    return this.#all
  }

  /** The source of each value, frozen. */
  getSources (): ConfigSources { return this.#sources }

  #secret (key: LateKey): string | null {
    const [value, tenantId] = [this.#values[key], this.#tenantId]
    if (value === null || tenantId === null || this.#sources[key] === 'env') return value
    this.#opened ??= {}
    return (this.#opened[key] ??= this.#open(value, tenantId, key))
  }
}

/** Builds a frozen object with one value for each key of a configuration. */
export function eachValue<T> (make: (key: ConfigKey) => T): { readonly [key in ConfigKey]: T } {
  return Object.freeze({
    phone_id: make('phone_id'),
    access_token: make('access_token'),
    waba_id: make('waba_id'),
    fb_app_id: make('fb_app_id'),
    fb_app_secret: make('fb_app_secret'),
    callback_url: make('callback_url'),
    redirect_url: make('redirect_url'),
    verify_token: make('verify_token'),
    token_expires_at: make('token_expires_at')
  })
}
