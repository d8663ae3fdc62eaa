/** The values of a configuration, by the names internal code knows them by. */
export interface ConfigValues {
  readonly phone_id: string | null
  readonly access_token: string | null
  readonly waba_id: string | null
  readonly fb_app_id: string | null
  readonly fb_app_secret: string | null
  readonly callback_url: string | null
  readonly redirect_url: string | null
  readonly verify_token: string | null
  /** ISO 8601, UTC. */
  readonly token_expires_at: string | null
}

/** Where a value comes from; null where there is none. */
export type ConfigSources = { readonly [key in keyof ConfigValues]: 'database' | 'env' | null }

/** One tenant's configuration at one moment. It never changes, and does not show its secrets when printed or serialised. */
export class ConfigSnapshot {
  readonly #values: ConfigValues
  readonly #sources: ConfigSources
  readonly #hasRow: boolean

  /**
   * Takes the values of the tenant's active row in clear (null when it has none) and those of `.env`.
   * The identity (phone id, WABA id, token and its expiry) comes whole from one of them: else a tenant's number
   * could be paired with the platform's token. The app pair falls back as a pair, the other values one by one.
   */
  constructor (row: ConfigValues | null, fallback: ConfigValues) {
    const identity = row ?? fallback
    const app = row?.fb_app_id != null && row.fb_app_secret !== null ? row : fallback
    const source = (key: keyof ConfigValues) => row?.[key] == null ? fallback : row
    const from: Record<keyof ConfigValues, ConfigValues> = {
      phone_id: identity,
      access_token: identity,
      waba_id: identity,
      fb_app_id: app,
      fb_app_secret: app,
      callback_url: source('callback_url'),
      redirect_url: source('redirect_url'),
      verify_token: source('verify_token'),
      token_expires_at: identity
    }
    const value = (key: keyof ConfigValues) => from[key][key]
    const origin = (key: keyof ConfigValues) => value(key) === null ? null : from[key] === row ? 'database' : 'env'
    this.#values = each(value)
    this.#sources = each(origin)
    this.#hasRow = row !== null
    Object.freeze(this)
  }

  /** Meta's id of the phone number that messages are sent from; null when there is none. */
  getPhoneId (): string | null { return this.#values.phone_id }

  /** The access token in clear, expired or not; null when there is none. */
  getAccessToken (): string | null { return this.#values.access_token }

  /** The id of the WhatsApp Business Account; null when there is none. */
  getWabaId (): string | null { return this.#values.waba_id }

  /** Whether an active row of the tenant serves, rather than the `.env` values alone. */
  hasTenantConfig (): boolean { return this.#hasRow }

  /** Whether the expiry of the access token has passed; a token without one does not expire. */
  isTokenExpired (): boolean {
    const { token_expires_at: expiry } = this.#values
    return expiry !== null && Date.parse(expiry) <= Date.now()
  }

  /** All values, frozen. */
  getAllConfig (): ConfigValues { return this.#values }

  /** Where each of the values comes from, frozen. */
  getSources (): ConfigSources { return this.#sources }
}

function each<T> (make: (key: keyof ConfigValues) => T): { readonly [key in keyof ConfigValues]: T } {
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
