/** An app at Meta: its id and its secret, in clear. */
export interface MetaApp { id: string, secret: string }

/**
 * The credential or object that a call depends on; it decides what an error code means: the login's code, the app's own
 * token, the token to be extended, or the customer's token, which is used for a WABA (`customer`), its callback
 * (`override`), a phone number (`phone`) or the registration of one (`register`).
 */
export type Subject = 'code' | 'app' | 'extend' | 'customer' | 'override' | 'phone' | 'register'

/** A call of the Graph API: its name in the log, and its subject. */
export interface Call { name: string, subject: Subject }

/** An HTTP request to the Graph API. */
export interface HttpRequest {
  method: 'GET' | 'POST' | 'DELETE'
  /** What follows the version in the URL, percent-encoded. */
  path: string
  query?: Record<string, string>
  form?: Record<string, string>
  /** Sent in place of a form. */
  json?: object
  /** A token to be sent, which the secret of the app signs. */
  token?: string
}

/** A call with its request. */
export interface GraphRequest extends Call, HttpRequest {
  /** The app it is made for; undefined when only the token is known, which then goes without a proof. */
  app: MetaApp | undefined
  /** The WABA it is about, whose limits it counts against. */
  account?: string | undefined
  /** The customer's token or code that it is about, where that is not `token`. */
  credential?: string
  /** No call before has shown that the token is the app's: a limit that refuses this call may be another app's. */
  isTokenUnchecked?: true
  /** The timeout of several calls together; without one, each has its own. */
  signal?: AbortSignal | undefined
}
