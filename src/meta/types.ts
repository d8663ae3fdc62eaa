/** An app at Meta: its id and its secret, in clear. */
export interface MetaApp { id: string, secret: string }

/**
 * The credential or object that a call depends on; it decides what an error code means. `code`: the login's code.
 * `app`: the app's own token. `extend`: the token to extend. The others use the customer's token: for a WABA
 * (`customer`), its callback (`override`), a phone number (`phone`), or its registration (`register`).
 */
export type Subject = 'code' | 'app' | 'extend' | 'customer' | 'override' | 'phone' | 'register'

/** A call of the Graph API: its name in the log, and its subject. */
export interface Call { name: string, subject: Subject }

/** An HTTP request to the Graph API. */
export interface HttpRequest {
  method: 'GET' | 'POST' | 'DELETE'
  /** The part of the URL after the version, percent-encoded. */
  path: string
  query?: Record<string, string>
  form?: Record<string, string>
  /** Sent in place of a form. */
  json?: object
  /** The token to send; the secret of the app signs it. */
  token?: string
}

/** A call with its request. */
export interface GraphRequest extends Call, HttpRequest {
  /** The app that makes the call; undefined for a token whose app is unknown, which then goes without a proof. */
  app: MetaApp | undefined
  /** The WABA whose limits the call counts against. */
  account?: string | undefined
  /** The customer's token or code, where that is not `token`. */
  credential?: string
  /** Whether the token may be another app's: then a limit that refuses the call may be that app's too. */
  isTokenUnchecked?: true
  /** The timeout of several calls together; without one, each has its own. */
  signal?: AbortSignal | undefined
}
