export type Json = Record<string, unknown>

/** An error in the form of Graph: endpoints throw it, and `fail()` accepts it as a reply. */
export class GraphError extends Error {
  readonly status: number
  readonly code: number
  readonly extra: Json

  /**
   * @param extra further members of the envelope (`error_subcode`, `is_transient`, `error_data` …), or another `type`
   */
  constructor (status: number, code: number, message: string, extra: Json = {}) {
    super(message)
    this.status = status
    this.code = code
    this.extra = extra
  }

  /** The envelope without `fbtrace_id`, which is new in every answer (Meta: Graph API, "Handle Errors"). */
  get envelope (): Json {
    return { message: this.message, type: 'OAuthException', code: this.code, ...this.extra }
  }

  /** The `WWW-Authenticate` header that comes with every OAuthException. */
  get challenge (): string | undefined {
    if (this.envelope.type !== 'OAuthException') return undefined
    const word = /(authorization|verification) code/.test(this.message)
      ? 'invalid_code'
      : CHALLENGES[this.code] ?? 'invalid_request'
    // Node refuses control characters in a header, and a test may put any text into a message.
    return `OAuth "Facebook Platform" "${word}" "${this.message.replace(/[^ -~]/g, '?')}"`
  }
}

const CHALLENGES: Record<number, string> = { 1: 'invalid_client', 101: 'invalid_client', 190: 'invalid_token' }

const TOKEN_ERRORS: Record<number, string> = {
  458: 'The user has not authorized the application.',
  459: 'You cannot access the app till you log in to www.facebook.com and follow the instructions given.',
  460: 'The session has been invalidated because the user changed their password or Facebook has changed the session ' +
    'for security reasons.',
  463: 'Session has expired.',
  464: 'Sessions for the user are not allowed because the user is not a confirmed user.',
  467: 'The session is invalid because the user logged out.',
  492: 'User must be an administrator, editor, or moderator of the page in order to impersonate it.',
  493: 'The access token is invalid since the user hasn\'t engaged the app in longer than 90 days.'
}

/** The subcodes of error 190. */
export const tokenSubcodes = Object.keys(TOKEN_ERRORS).map(Number)

/**
 * Error 190 with the given subcode; without one, the error for a text that is no token.
 * @param status 401 for a token sent as Bearer, 400 for one sent as a parameter
 */
export function tokenRefused (subcode?: number, status = 400): GraphError {
  return subcode === undefined
    ? new GraphError(status, 190, 'Invalid OAuth access token - Cannot parse access token')
    : new GraphError(status, 190, `Error validating access token: ${TOKEN_ERRORS[subcode]}`, { error_subcode: subcode })
}

/** The error with its numbers and booleans as texts. */
export function withTexts ({ status, code, message, envelope }: GraphError): GraphError {
  const odd = Object.entries(envelope).map(([name, value]) =>
    [name, typeof value === 'number' || typeof value === 'boolean' ? String(value) : value])
  return new GraphError(status, code, message, Object.fromEntries(odd))
}

/** Error 2: Meta asks to try again later. */
export function temporarilyDown (status = 500): GraphError {
  return new GraphError(
    status,
    2,
    'An unexpected error has occurred. Please retry your request later.',
    { is_transient: true }
  )
}

/** A rate limit: 4 of the app; 80007 (WhatsApp's error page) or 80008 (the rate limit page) of the WABA. */
export function throttled (code: 4 | 80007 | 80008): GraphError {
  return new GraphError(429, code, code === 4
    ? '(#4) Application request limit reached'
    : `(#${code}) There have been too many calls to this WhatsApp Business account. Wait a bit and try again.`)
}

/** The codes with which a registration is refused. */
export const registerCodes = [100, 133000, 133004, 133005, 133006, 133008, 133009, 133010, 133015, 133016] as const

const REGISTER_REFUSALS: Record<typeof registerCodes[number], [status: number, title: string, details: string]> = {
  100: [400, 'Invalid parameter', 'The PIN must have six digits'],
  133000: [500, 'Incomplete deregistration', 'A previous deregistration has not come to its end; deregister again'],
  133004: [503, 'Server temporarily unavailable', 'Try again later'],
  133005: [400, 'Two step verification PIN Mismatch', 'The PIN is not the one that was set'],
  133006: [400, 'Phone number re-verification needed', 'The number must be verified before it is registered'],
  133008: [400, 'Too many two step verification PIN guesses', 'Wait before the next guess'],
  133009: [400, 'Two step verification PIN guessed too fast', 'Wait before the next guess'],
  133010: [400, 'Account not registered', 'The number is not registered'],
  133015: [400, 'Phone number was recently deleted', 'Its deletion goes on; wait some minutes'],
  133016: [400, 'Account register deregister rate limit exceeded', 'Too many attempts in 72 hours']
}

/** A refusal of `/register` or `/deregister` (Meta: WhatsApp, "Error Codes"); 100 is for a malformed PIN. */
export function registerRefused (code: typeof registerCodes[number]): GraphError {
  const [status, title, details] = REGISTER_REFUSALS[code]
  return new GraphError(status, code, `(#${code}) ${title}`, {
    error_data: { messaging_product: 'whatsapp', details },
    ...(code === 100 && { error_subcode: 2388092 })
  })
}

/**
 * The refusal to register or deregister a number of the WhatsApp Business app. Meta documents that such a number is
 * neither (WhatsApp, "Register API"), but not the error: it is our assumption.
 */
export function onBusinessApp (): GraphError {
  return new GraphError(400, 100, '(#100) The phone number is used with the WhatsApp Business app', {
    error_data: { messaging_product: 'whatsapp', details: 'It is neither registered nor deregistered' }
  })
}

/** Error 2200: the failure of a callback's verification, with the reason that Meta quotes. */
export function callbackRefused (failure = 'HTTP Status Code = 403; HTTP Message = Forbidden'): GraphError {
  return new GraphError(400, 2200, `(#2200) Callback verification failed with the following errors: ${failure}`)
}
