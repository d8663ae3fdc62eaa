import createError, { type FastifyErrorConstructor } from '@fastify/error'

/** One of the classes below. */
export type ErrorClass = FastifyErrorConstructor<{ code: string, statusCode: number }, []>

/*
 * Every error code the API returns, one per line: code, detail, HTTP status.
 * The detail is what a client reads, so it says what to do next and never carries a value it was sent.
 */

export const ValidationFailed = createError('VALIDATION_FAILED', 'The request is not as the API describes it; see `errors`.', 400)
export const MalformedJson = createError('MALFORMED_JSON', 'The body is not valid JSON in UTF-8.', 400)
export const MalformedRequest = createError('MALFORMED_REQUEST', 'This is not HTTP/1.1 as the service can read it. Percent-encode the URL, send one Host header, and no blanks or control characters in headers.', 400)
export const MaskedValue = createError('MASKED_VALUE', 'A masked value was sent for a secret. Leave the field out to keep what is stored.', 400)
export const InvalidCursor = createError('INVALID_CURSOR', 'Send `cursor` exactly as `next_cursor` gave it, or leave it out to start over.', 400)
export const OauthStateInvalid = createError('OAUTH_STATE_INVALID', 'The state is missing, unknown, used, expired or not yours. Begin again with POST /onboard/whatsapp-client/start.', 400)
export const RedirectUriNotAllowed = createError('REDIRECT_URI_NOT_ALLOWED', 'This redirect_uri is not one of OAUTH_REDIRECT_URIS. Send one that is, character by character, or have the platform add it.', 400)
export const CallbackUrlTooLong = createError('CALLBACK_URL_TOO_LONG', 'Meta takes a callback_url of at most 200 characters. Shorten it with PUT /config, then go on with POST /onboard/whatsapp-client/resume.', 400)

export const Unauthenticated = createError('UNAUTHENTICATED', 'Send a valid, unexpired token as `Authorization: Bearer <JWT>`.', 401)
export const SignatureInvalid = createError('SIGNATURE_INVALID', 'The body is not signed with the secret of the app. Check FB_APP_SECRET and FB_APP_SECRETS_PREVIOUS.', 401)

export const Forbidden = createError('FORBIDDEN', 'This needs a token with the admin role.', 403)
export const TenantClaimInvalid = createError('TENANT_CLAIM_INVALID', 'The token names no usable tenant. Ask for one with a tenant claim of 1 to 100 characters.', 403)
export const VerifyTokenMismatch = createError('VERIFY_TOKEN_MISMATCH', 'The verify token is not the one of WEBHOOK_VERIFY_TOKEN. Set both alike.', 403)

export const ConfigNotFound = createError('CONFIG_NOT_FOUND', 'There is no configuration. Create one with POST /config or by onboarding.', 404)
export const OnboardingNotFound = createError('ONBOARDING_NOT_FOUND', 'There is no onboarding to show or to resume. Begin one with POST /onboard/whatsapp-client.', 404)
export const RouteNotFound = createError('ROUTE_NOT_FOUND', 'No such method and path. The OpenAPI document lists what there is.', 404)

export const ConfigExists = createError('CONFIG_EXISTS', 'The tenant has a configuration already. Change it with PUT /config.', 409)
export const PhoneNumberTaken = createError('PHONE_NUMBER_TAKEN', 'Another tenant has verified this phone_number_id. Check it, or have it released first; an onboarding then goes on with POST /onboard/whatsapp-client/resume.', 409)
export const ConfirmationMismatch = createError('CONFIRMATION_MISMATCH', 'The confirmation does not match what is stored now; nothing was deleted. Ask again without `confirm`.', 409)
export const TenantInactive = createError('TENANT_INACTIVE', 'The tenant is deactivated. Activate it before using its credentials.', 409)
export const TokenDead = createError('TOKEN_DEAD', 'The access token of the tenant is revoked, expired or to be authorised again. Have the tenant onboard again, or store a new token with PUT /config.', 409)
export const OnboardingSuperseded = createError('ONBOARDING_SUPERSEDED', 'The configuration was changed or deleted, or a newer onboarding took over, while this one was under way. Start the Meta login again if you still want it.', 409)
export const MetaPhoneChoiceRequired = createError('META_PHONE_CHOICE_REQUIRED', 'The account has several phone numbers. Name one of `phone_numbers` as phone_number_id to POST /onboard/whatsapp-client/resume.', 409)
export const MetaCallbackRefused = createError('META_CALLBACK_REFUSED', 'Meta could not verify callback_url: it must echo hub.challenge within about 6 seconds when hub.verify_token is your verify_token. Mend it, then go on with POST /onboard/whatsapp-client/resume.', 409)
export const MetaRegisterRefused = createError('META_REGISTER_REFUSED', 'Meta refuses to register the phone number. See GET /onboard/whatsapp-client for what it said, then send the pin to POST /onboard/whatsapp-client/resume.', 409)

export const RequestTimeout = createError('REQUEST_TIMEOUT', 'The request did not arrive whole within 30 seconds. Send it again.', 408)
export const PayloadTooLarge = createError('PAYLOAD_TOO_LARGE', 'The body is larger than 64 KiB, or 3 MiB where Meta sends account updates.', 413)
export const UnsupportedMediaType = createError('UNSUPPORTED_MEDIA_TYPE', 'Send the body as `content-type: application/json`.', 415)
export const ExpectationFailed = createError('EXPECTATION_FAILED', 'The service meets no expectation but `100-continue`. Leave the Expect header out.', 417)
export const ConfirmationRequired = createError('CONFIRMATION_REQUIRED', 'This deletes every configuration. Repeat the request with `?confirm=` and the value of `confirm`.', 428)

export const RateLimited = createError('RATE_LIMITED', 'Too many requests of this tenant are under way. Send this one again after the time of retry-after.', 429)

export const HeadersTooLarge = createError('HEADERS_TOO_LARGE', 'The URL and the headers together are larger than 16 KiB.', 431)

export const MetaCodeUsed = createError('META_CODE_USED', 'Meta says this code was used already. Start the Meta login again to get a new one.', 400)
export const MetaCodeExpired = createError('META_CODE_EXPIRED', 'Meta says this code has expired: it lives about 30 seconds. Start the Meta login again and send the code at once.', 400)
export const MetaCodeInvalid = createError('META_CODE_INVALID', 'Meta does not accept this code. Start the Meta login again and send the code unchanged.', 400)
export const MetaRedirectMismatch = createError('META_REDIRECT_MISMATCH', 'The redirect_uri is not the one of the login dialog. Start the Meta login again and send it character by character; send none for a code from the JavaScript SDK.', 400)
export const MetaTokenInvalid = createError('META_TOKEN_INVALID', 'Meta says the access token is not valid for this app. Start the Meta login again.', 400)

export const MetaWabaNotAccessible = createError('META_WABA_NOT_ACCESSIBLE', 'The granted token does not see this waba_id. Check it, then start the Meta login again and share the account there.', 403)
export const MetaPhoneNotInWaba = createError('META_PHONE_NOT_IN_WABA', 'This phone_number_id does not belong to the waba_id. Name one that does to POST /onboard/whatsapp-client/resume, or start the Meta login again.', 403)
export const MetaPermissionMissing = createError('META_PERMISSION_MISSING', 'The granted token lacks a permission. Start the Meta login again and grant whatsapp_business_management there.', 403)

export const MetaAppRejected = createError('META_APP_REJECTED', 'Meta rejects the app. Check fb_app_id and fb_app_secret (or FB_APP_ID and FB_APP_SECRET) and what the app may do, then go on with POST /onboard/whatsapp-client/resume, or a new Meta login if the code was refused.', 502)
export const MetaUnexpectedReply = createError('META_UNEXPECTED_REPLY', 'Meta answered something that cannot be read. Try again with POST /onboard/whatsapp-client/resume; if it stays so, tell the platform.', 502)
export const MetaExchangeUnknown = createError('META_EXCHANGE_UNKNOWN', 'Nobody knows whether Meta took the code, so it is not sent again. Start the Meta login again to get a new one.', 502)
export const MetaUnsubscribeRefused = createError('META_UNSUBSCRIBE_REFUSED', 'Meta refuses to take the app off the account; nothing was deleted. Mend what it says is wrong, or delete all the same with `&force=true`.', 502)

export const MetaRateLimited = createError('META_RATE_LIMITED', 'Meta limits the rate of calls, for longer the more are made. Try again after the time of retry-after: with POST /onboard/whatsapp-client/resume, or a new Meta login if that finds nothing to resume.', 503)
export const MetaUnavailable = createError('META_UNAVAILABLE', 'Meta could not be reached or failed. Try again later: the same request, or POST /onboard/whatsapp-client/resume once an onboarding has begun.', 503)
export const MetaAppNotConfigured = createError('META_APP_NOT_CONFIGURED', 'No Meta app is configured. Store fb_app_id and fb_app_secret, or set FB_APP_ID and FB_APP_SECRET.', 503)
export const DatabaseUnavailable = createError('DATABASE_UNAVAILABLE', 'The database does not answer at the moment. Try again later.', 503)
export const Overloaded = createError('OVERLOADED', 'Too many deliveries are being read at the moment. Send it again later.', 503)

export const ServiceClosing = createError('SERVICE_CLOSING', 'This instance of the service is closing. Send the request again after the time of retry-after; an onboarding that has a token goes on with POST /onboard/whatsapp-client/resume.', 503)
export const OnboardingUnderWay = createError('ONBOARDING_UNDER_WAY', 'The onboarding is still under way. Read GET /onboard/whatsapp-client; if it has not ended, go on with POST /onboard/whatsapp-client/resume.', 503)
export const ConfigChanging = createError('CONFIG_CHANGING', 'The configuration, or the other tenants on its account, changed again and again; nothing was deleted. Try again later.', 503)

export const MetaTimeout = createError('META_TIMEOUT', 'Meta did not answer in time. Try again later: the same request, or POST /onboard/whatsapp-client/resume once an onboarding has begun.', 504)

export const SecretUnreadable = createError('SECRET_UNREADABLE', 'A stored secret cannot be opened. Store it again with PUT /config; if that does not help, tell the platform.', 500)
export const Internal = createError('INTERNAL', 'Something failed on our side. Tell the platform the request_id.', 500)
