import { randomBytes, randomInt } from 'node:crypto'

/** An app. Changes to the object that `addApp` returned apply to the app. */
export interface App {
  app_id: string
  app_secret: string
  app_token: string
  redirect_uris: string[]
  require_proof: boolean
  /** The webhook URL of the app, used where no override applies; without it no override is possible. */
  callback_url: string | null
  /** Whether Meta sends webhooks to that URL. */
  webhook_active: boolean
  /** The fields of whatsapp_business_account that Meta sends there. */
  webhook_fields: string[]
}

/** A separate webhook URL, of one WABA or one phone number. */
export interface Override { url: string, verify_token: string }

/** A phone number; any further member is a field that Graph shows, and replaces the default field of that name. */
export interface Phone {
  id: string
  /** The PIN of the two-step verification; null: the first registration sets it. */
  pin: string | null
  registered: boolean
  /** Whether its owner has verified it. */
  verified: boolean
  /** Whether the WhatsApp Business app uses it too (coexistence): it works without a registration. */
  is_on_biz_app?: boolean
  /** The times of registrations and deregistrations, failed ones included; unix seconds. */
  attempts: number[]
  override?: Override
  [field: string]: unknown
}

export interface Subscription { override?: Override }

export interface Waba {
  id: string
  name: string
  app_ids: string[]
  phones: Phone[]
  /** The subscriptions, by the id of the app that receives the webhooks. */
  subscriptions: Map<string, Subscription>
  [field: string]: unknown
}

/** The input for a WABA; phones (default: one) are sorted newest first, as Graph lists them. */
export interface WabaSeed {
  id?: string
  app_ids: string[]
  phones?: Array<Pick<Phone, 'id'> & Partial<Phone>>
  subscriptions?: Record<string, Subscription>
  [field: string]: unknown
}

/** A business of a customer, with the ids of its WABAs. */
export interface Business { id: string, owned_waba_ids: string[], client_waba_ids: string[] }

/** The grant of a customer in the login dialog. */
export interface Grant {
  app_id: string
  /** The WABAs shared with the app; `null` (the default): all of the app, as for a manually created system user. */
  waba_ids?: string[] | null
  scopes?: string[]
  /**
   * The lifetime of the token in seconds: default 5183944 (about 60 days), 0 for never expiring, negative for already
   * expired.
   */
  expires_in?: number
  /** The time until the access to data ends, in seconds; default 0: never. */
  data_access_expires_in?: number
  /** Default SYSTEM_USER, the type that Embedded Signup issues. */
  type?: 'SYSTEM_USER' | 'USER'
  /** The customer's business; random by default. */
  business_id?: string
  /** The businesses that `GET /me/businesses` lists, with the scope business_management; default none. */
  business_ids?: string[]
  /** False: `fb_exchange_token` refuses it. Default true. */
  extendable?: boolean
}

export interface Token {
  app: App
  type: 'APP' | 'SYSTEM_USER' | 'USER'
  user_id?: string
  /** The business of the customer, for the token of a system user. */
  business_id?: string
  business_ids?: string[]
  extendable?: boolean
  /** Unix seconds. */
  issued_at?: number
  /** Unix seconds, 0 for never. */
  expires_at: number
  /** Unix seconds, 0 for never. */
  data_access_expires_at?: number
  scopes: string[]
  waba_ids: string[] | null
  /** Set it to revoke the token: the subcode of error 190 in later answers. */
  revoked?: number
}

export interface Code { app: App, grant: Grant, redirect_uri: string | null, issued_at: number, used: boolean }

export const TOKEN_LIFETIME_S = 5183944
const SCOPES = ['whatsapp_business_management', 'whatsapp_business_messaging', 'public_profile']

export const now = () => Math.floor(Date.now() / 1000)
export const opaque = (prefix: string, length: number) =>
  prefix + randomBytes(length * 2).toString('base64').replace(/[^A-Za-z0-9]/g, '').slice(0, length)
const digits = () => String(randomInt(1e14, 2e14))

/** The state of the stand-in. The maps may be read and changed at any time. */
export class GraphState {
  readonly apps = new Map<string, App>()
  readonly wabas = new Map<string, Waba>()
  readonly businesses = new Map<string, Business>()
  readonly codes = new Map<string, Code>()
  readonly tokens = new Map<string, Token>()

  /**
   * Adds an app, or replaces the one with its id, also for the codes and tokens that it issued. Missing members are
   * random; without `redirect_uris` any is allowed.
   */
  addApp (seed: Partial<App> = {}): App {
    const appId = seed.app_id ?? digits()
    const app = {
      app_id: appId,
      app_secret: randomBytes(16).toString('hex'),
      app_token: opaque(`${appId}|`, 27),
      redirect_uris: [],
      require_proof: false,
      callback_url: null,
      webhook_active: true,
      webhook_fields: ['messages', 'account_update'],
      ...seed
    }
    const existing = this.apps.get(appId)
    if (existing) return Object.assign(existing, app)
    this.apps.set(appId, app)
    return app
  }

  /** Adds a WABA that the apps in `app_ids` may see. */
  addWaba ({ phones = [{ id: digits() }], subscriptions = {}, ...seed }: WabaSeed): Waba {
    const waba = {
      id: digits(),
      name: 'Lucky Shrub',
      ...seed,
      phones: phones.map(withDefaults),
      subscriptions: new Map(Object.entries(subscriptions))
    }
    this.wabas.set(waba.id, waba)
    return waba
  }

  /** Adds a business, or replaces the one with its id. */
  addBusiness ({ owned_waba_ids = [], client_waba_ids = [], ...seed }: Pick<Business, 'id'> & Partial<Business>): void {
    this.businesses.set(seed.id, { ...seed, owned_waba_ids, client_waba_ids })
  }

  /**
   * Issues a code as the login dialog does.
   * @param options.redirect_uri that of the dialog; `null` (the default) for a code of the JavaScript SDK
   * @param options.age seconds since it was issued, default 0
   * @param options.code its text; random by default
   * @throws where the dialog would show an error page: unknown app, unregistered `redirect_uri`
   */
  issueCode (
    { redirect_uri: redirectUri = null, age = 0, code = opaque('AQ', 160), ...grant }: Grant & {
      redirect_uri?: string | null
      age?: number
      code?: string
    }
  ): string {
    const app = this.app(grant.app_id)
    if (redirectUri !== null && app.redirect_uris.length > 0 && !app.redirect_uris.includes(redirectUri)) {
      throw new Error(`the dialog refuses the unregistered ${redirectUri}`)
    }
    this.codes.set(code, { app, grant, redirect_uri: redirectUri, issued_at: now() - age, used: false })
    return code
  }

  /** Issues a customer's token, as the exchange of a code does. */
  issueToken (grant: Grant, text?: string): string {
    const {
      expires_in: lifetime = TOKEN_LIFETIME_S,
      data_access_expires_in: dataAccess = 0,
      scopes = SCOPES,
      waba_ids: wabaIds = null,
      type = 'SYSTEM_USER',
      extendable = true
    } = grant
    return this.mint({
      app: this.app(grant.app_id),
      type,
      user_id: digits(),
      business_id: grant.business_id ?? digits(),
      business_ids: grant.business_ids ?? [],
      extendable,
      issued_at: now(),
      expires_at: lifetime === 0 ? 0 : now() + lifetime,
      data_access_expires_at: dataAccess === 0 ? 0 : now() + dataAccess,
      scopes,
      waba_ids: wabaIds
    }, text)
  }

  /** Stores a token under its text, random by default. */
  mint (token: Token, text = opaque('EAA', 180)): string {
    this.tokens.set(text, token)
    return text
  }

  /** Throws for an unknown app. */
  app (appId: string): App {
    const app = this.apps.get(appId)
    if (!app) throw new Error(`there is no app ${appId}`)
    return app
  }
}

function withDefaults (phone: Pick<Phone, 'id'> & Partial<Phone>): Phone {
  return {
    pin: null,
    registered: phone.is_on_biz_app === true,
    verified: true,
    attempts: [],
    display_phone_number: `+1 631-555-${randomInt(1000, 9999)}`,
    verified_name: 'Lucky Shrub',
    quality_rating: 'GREEN',
    platform_type: 'CLOUD_API',
    throughput: { level: 'STANDARD' },
    last_onboarded_time: '2026-11-01T10:00:00+0000',
    ...phone
  }
}
