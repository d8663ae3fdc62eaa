import createError, { type FastifyError, type FastifyErrorConstructor } from '@fastify/error'

/** The type of the classes below. */
export type ErrorClass = FastifyErrorConstructor<{ code: string, statusCode: number }, [options?: { cause?: unknown }]>

const classes = new Map<string, ErrorClass>()

/** The details of a failed call of the Graph API: ids and numbers, never a secret. */
export interface GraphErrorDetails {
  /** False only when the call cannot have reached Meta: there was no connection, or nothing was sent. */
  sent: boolean
  meta_code: number | null
  meta_subcode: number | null
  fbtrace_id: string | null
}

/** The base of the graph errors. A failed call sets `details`. */
class GraphError extends Error {
  declare details?: GraphErrorDetails | null
}

/*
 * Every error code the API returns: code, HTTP status, detail. A client reads the detail: it names the next action
 * and never holds a value of the request. A call of the Graph API fails with a graph error.
 */

export const ValidationFailed = define('VALIDATION_FAILED', 400,
  'The request is not as the API describes it; see `errors`.')
export const MalformedJson = define('MALFORMED_JSON', 400, 'The body is not valid JSON in UTF-8.')
export const MalformedRequest = define('MALFORMED_REQUEST', 400,
  'This is not HTTP/1.1 as the service can read it. Percent-encode the URL, send one Host header, and ' +
  'no blanks or control characters in headers.')
export const MaskedValue = define('MASKED_VALUE', 400,
  'A masked value was sent for a secret. Leave the field out to keep what is stored.')
export const InvalidCursor = define('INVALID_CURSOR', 400,
  'Send `cursor` exactly as `next_cursor` gave it, or leave it out to start over.')
export const OauthStateInvalid = define('OAUTH_STATE_INVALID', 400,
  'The state is missing, unknown, used, expired or not yours. Begin again with POST ' +
  '/onboard/whatsapp-client/start.')
export const RedirectUriNotAllowed = define('REDIRECT_URI_NOT_ALLOWED', 400,
  'This redirect_uri is not one of OAUTH_REDIRECT_URIS. Send one that is, character by character, or ' +
  'have the platform add it.')
export const CallbackUrlTooLong = define('CALLBACK_URL_TOO_LONG', 400,
  'Meta takes a callback_url of at most 200 characters. Shorten it with PUT /config, then go on with ' +
  'POST /onboard/whatsapp-client/resume.')

export const Unauthenticated = define('UNAUTHENTICATED', 401,
  'Send a valid, unexpired token or service key as `Authorization: Bearer <token>`.')
export const SignatureInvalid = define('SIGNATURE_INVALID', 401,
  'The body is not signed with the secret of the app. Check FB_APP_SECRET and FB_APP_SECRETS_PREVIOUS.')

export const Forbidden = define('FORBIDDEN', 403,
  'This needs a token with the admin role. The auditor role opens GET /admin/audit alone. A service key may only ' +
  'read configurations, and those of its tenants.')
export const TenantClaimInvalid = define('TENANT_CLAIM_INVALID', 403,
  'The token names no usable tenant. Ask for one with a tenant claim of 1 to 100 characters.')
export const ScopeMissing = define('SCOPE_MISSING', 403,
  'The token or service key lacks the scope that this needs; `www-authenticate` names it. Ask for one with it.')
export const RevealDisabled = define('REVEAL_DISABLED', 403,
  'This service shows no secrets in clear (FULL_CONFIG_ACCESS). Read GET /config, which masks them.')
export const VerifyTokenMismatch = define('VERIFY_TOKEN_MISMATCH', 403,
  'The verify token is not the one of WEBHOOK_VERIFY_TOKEN. Set both alike.')

export const ConfigNotFound = define('CONFIG_NOT_FOUND', 404,
  'There is no configuration. Create one with POST /config or by onboarding.')
export const OnboardingNotFound = define('ONBOARDING_NOT_FOUND', 404,
  'There is no onboarding to show or to resume. Begin one with POST /onboard/whatsapp-client.')
export const EventNotFound = define('EVENT_NOT_FOUND', 404,
  'There is no such event. GET /admin/events lists those that wait, and those of the last 7 days.')
export const VersionNotFound = define('VERSION_NOT_FOUND', 404,
  'There is no such former state, or it is no longer kept. GET /config/versions lists those of a tenant.')
export const ServiceKeyNotFound = define('SERVICE_KEY_NOT_FOUND', 404,
  'There is no such service key. GET /admin/service-keys lists them.')
export const RouteNotFound = define('ROUTE_NOT_FOUND', 404,
  'No such method and path. The OpenAPI document lists what there is.')

export const ConfigExists = define('CONFIG_EXISTS', 409,
  'The tenant has a configuration already. Change it with PUT /config.')
export const PhoneNumberTaken = define('PHONE_NUMBER_TAKEN', 409,
  'Another tenant has verified this phone_number_id. Check it, or have it released first; an onboarding ' +
  'then goes on with POST /onboard/whatsapp-client/resume.')
export const ConfirmationMismatch = define('CONFIRMATION_MISMATCH', 409,
  'The confirmation does not match what is stored now; nothing was deleted. Ask again without ' +
  '`confirm`.')
export const TenantInactive = define('TENANT_INACTIVE', 409,
  'The tenant is deactivated. Activate it before using its credentials.')
export const TokenDead = define('TOKEN_DEAD', 409,
  'The access token of the tenant is revoked, expired or to be authorised again. Have the tenant ' +
  'onboard again, or store a new token with PUT /config.')
export const OnboardingSuperseded = define('ONBOARDING_SUPERSEDED', 409,
  'The configuration was changed or deleted, or a newer onboarding took over, while this one was under ' +
  'way. Start the Meta login again if you still want it.')
export const MetaPhoneChoiceRequired = define('META_PHONE_CHOICE_REQUIRED', 409,
  'The account has several phone numbers. Name one of `phone_numbers` as phone_number_id to POST ' +
  '/onboard/whatsapp-client/resume.')
export const MetaNumberChanged = define('META_NUMBER_CHANGED', 409,
  'The login is for another phone number than the tenant has; nothing was changed. Name one of ' +
  '`phone_numbers` as phone_number_id to POST /onboard/whatsapp-client/resume to change to it, or log ' +
  'in again and grant the present one.')
export const MetaAccountRequired = defineGraph('META_ACCOUNT_REQUIRED', 409,
  'The login does not tell which WhatsApp Business Account is meant. Name it as waba_id to POST ' +
  '/onboard/whatsapp-client/resume.')
export const MetaCallbackRefused = defineGraph('META_CALLBACK_REFUSED', 409,
  'Meta could not verify callback_url: it must echo hub.challenge within about 6 seconds when ' +
  'hub.verify_token is your verify_token. Mend it, then go on with POST ' +
  '/onboard/whatsapp-client/resume.')
export const MetaRegisterRefused = defineGraph('META_REGISTER_REFUSED', 409,
  'Meta refuses to register the phone number. See GET /onboard/whatsapp-client for what it said, then ' +
  'send the pin to POST /onboard/whatsapp-client/resume.')

export const IdempotencyInProgress = define('IDEMPOTENCY_IN_PROGRESS', 409,
  'The first request with this Idempotency-Key is still under way. Send this one again after the time of retry-after.')

export const RequestTimeout = define('REQUEST_TIMEOUT', 408,
  'The request did not arrive whole within 30 seconds. Send it again.')
export const PreconditionFailed = define('PRECONDITION_FAILED', 412,
  'The configuration has changed since you read it; nothing was written. Read GET /config again, and repeat the ' +
  'request with its `etag` in If-Match.')
export const PayloadTooLarge = define('PAYLOAD_TOO_LARGE', 413,
  'The body is larger than 64 KiB, or 3 MiB where Meta sends account updates.')
export const UnsupportedMediaType = define('UNSUPPORTED_MEDIA_TYPE', 415,
  'Send the body as `content-type: application/json`.')
export const ExpectationFailed = define('EXPECTATION_FAILED', 417,
  'The service meets no expectation but `100-continue`. Leave the Expect header out.')
export const IdempotencyKeyReused = define('IDEMPOTENCY_KEY_REUSED', 422,
  'This Idempotency-Key came with another request before. Send a new key with each new request.')
export const ConfirmationRequired = define('CONFIRMATION_REQUIRED', 428,
  'This deletes every configuration. Repeat the request with `?confirm=` and the value of `confirm`.')

export const RateLimited = define('RATE_LIMITED', 429,
  'Too many requests, of this tenant or from this address. Send this one again after the time of retry-after.')

export const HeadersTooLarge = define('HEADERS_TOO_LARGE', 431,
  'The URL and the headers together are larger than 16 KiB.')

export const MetaCodeUsed = defineGraph('META_CODE_USED', 400,
  'Meta says this code was used already. Start the Meta login again to get a new one.')
export const MetaCodeExpired = defineGraph('META_CODE_EXPIRED', 400,
  'Meta says this code has expired: it lives about 30 seconds. Start the Meta login again and send the ' +
  'code at once.')
export const MetaCodeInvalid = defineGraph('META_CODE_INVALID', 400,
  'Meta does not accept this code. Start the Meta login again and send the code unchanged.')
export const MetaRedirectMismatch = defineGraph('META_REDIRECT_MISMATCH', 400,
  'The redirect_uri is not the one of the login dialog. Start the Meta login again and send it ' +
  'character by character; send none for a code from the JavaScript SDK.')
export const MetaTokenInvalid = defineGraph('META_TOKEN_INVALID', 400,
  'Meta says the access token is not valid for this app. Start the Meta login again.')

export const MetaWabaNotAccessible = defineGraph('META_WABA_NOT_ACCESSIBLE', 403,
  'The granted token does not see the WhatsApp Business Account. Check which one is meant, then start the ' +
  'Meta login again and share it there.')
export const MetaPhoneNotInWaba = defineGraph('META_PHONE_NOT_IN_WABA', 403,
  'The phone number does not belong to the account, or the granted token does not see it. Name another ' +
  'phone_number_id to POST /onboard/whatsapp-client/resume, or start the Meta login again.')
export const MetaPermissionMissing = defineGraph('META_PERMISSION_MISSING', 403,
  'The granted token lacks a permission. Start the Meta login again and grant ' +
  'whatsapp_business_management there.')

export const MetaAppRejected = defineGraph('META_APP_REJECTED', 502,
  'Meta rejects the app. Check fb_app_id and fb_app_secret (or FB_APP_ID and FB_APP_SECRET) and what ' +
  'the app may do, then go on with POST /onboard/whatsapp-client/resume, or a new Meta login if the ' +
  'code was refused.')
export const MetaUnexpectedReply = defineGraph('META_UNEXPECTED_REPLY', 502,
  'Meta answered something that cannot be read. Try again with POST /onboard/whatsapp-client/resume; if ' +
  'it stays so, tell the platform.')
export const MetaExchangeUnknown = defineGraph('META_EXCHANGE_UNKNOWN', 502,
  'Nobody knows whether Meta took the code, so it is not sent again. Start the Meta login again to get ' +
  'a new one.')
export const MetaUnsubscribeRefused = define('META_UNSUBSCRIBE_REFUSED', 502,
  'Meta refuses to take the app off the account; nothing was deleted. Mend what it says is wrong, or ' +
  'delete all the same with `&force=true`.')

export const MetaRateLimited = defineGraph('META_RATE_LIMITED', 503,
  'Meta limits the rate of calls, for longer the more are made. Try again after the time of ' +
  'retry-after: with POST /onboard/whatsapp-client/resume, or a new Meta login if that finds nothing to ' +
  'resume.')
export const MetaUnavailable = defineGraph('META_UNAVAILABLE', 503,
  'Meta could not be reached or failed. Try again later: the same request, or POST ' +
  '/onboard/whatsapp-client/resume once an onboarding has begun.')
export const MetaAppNotConfigured = define('META_APP_NOT_CONFIGURED', 503,
  'No Meta app is configured. Store fb_app_id and fb_app_secret, or set FB_APP_ID and FB_APP_SECRET.')
export const DatabaseUnavailable = define('DATABASE_UNAVAILABLE', 503,
  'The database does not answer at the moment. Try again later.')
export const AuditUnavailable = define('AUDIT_UNAVAILABLE', 503,
  'The request could not be recorded in the audit log, so its answer is withheld. A change that it made stands: read ' +
  'the configuration before you send it again.')
export const IdentityUnavailable = define('IDENTITY_UNAVAILABLE', 503,
  'The keys of the identity provider cannot be read at the moment, so no token can be checked. Try again later.')
export const Overloaded = define('OVERLOADED', 503,
  'This instance has more to do than it can. Send the request again after the time of retry-after.')

export const ServiceClosing = define('SERVICE_CLOSING', 503,
  'This instance of the service is closing. Send the request again after the time of retry-after; an ' +
  'onboarding that has a token goes on with POST /onboard/whatsapp-client/resume.')
export const OnboardingUnderWay = define('ONBOARDING_UNDER_WAY', 503,
  'The onboarding is still under way. Read GET /onboard/whatsapp-client; if it has not ended, go on ' +
  'with POST /onboard/whatsapp-client/resume.')
export const ConfigChanging = define('CONFIG_CHANGING', 503,
  'The configuration, or the other tenants on its account, changed again and again; nothing was ' +
  'deleted. Try again later.')

export const MetaTimeout = defineGraph('META_TIMEOUT', 504,
  'Meta did not answer in time. Try again later: the same request, or POST ' +
  '/onboard/whatsapp-client/resume once an onboarding has begun.')

export const SecretUnreadable = define('SECRET_UNREADABLE', 500,
  'A stored secret cannot be opened. Store it again with PUT /config; if that does not help, tell the ' +
  'platform.')
export const Internal = define('INTERNAL', 500, 'Something failed on our side. Tell the platform the request_id.')

export const errorClasses: readonly ErrorClass[] = [...classes.values()]

/** Creates the error with this code, or returns undefined. */
export function createErrorByCode (code: string): InstanceType<ErrorClass> | undefined {
  const ErrorClass = classes.get(code)
  return ErrorClass && new ErrorClass()
}

/** Sets the details of the failed call on its error. */
export function withGraphDetails (error: FastifyError, details: GraphErrorDetails | null): FastifyError {
  return Object.assign(error, { details })
}

/** Returns the details of a failed call's error; null for any other error. */
export function graphErrorDetails (err: unknown): GraphErrorDetails | null {
  return err instanceof GraphError ? err.details ?? null : null
}

/** Tells whether Meta refused this token for good. A fault of the network, of Meta or of our app is none. */
export function isRefusal (err: unknown): err is FastifyError {
  return [MetaTokenInvalid, MetaWabaNotAccessible, MetaPhoneNotInWaba, MetaPermissionMissing]
    .some((Refusal) => err instanceof Refusal)
}

function define (code: string, status: number, detail: string): ErrorClass {
  const ErrorClass: ErrorClass = createError(code, detail, status)
  classes.set(code, ErrorClass)
  return ErrorClass
}

function defineGraph (code: string, status: number, detail: string): ErrorClass {
  const ErrorClass = define(code, status, detail)
  Object.setPrototypeOf(ErrorClass.prototype, GraphError.prototype)
  return ErrorClass
}
