import { createHmac } from 'node:crypto'
import { GraphError, tokenRefused } from '../../errors.js'
import { now, type GraphState, type Token } from '../../state.js'

/** One request, as an endpoint sees it. */
export interface Call {
  method: string
  /** The members of the query, then those of the body (a form or JSON). */
  params: URLSearchParams
  bearer: string | undefined
  /** The object in the path; empty if the path has none. */
  id: string
  /** The URL of the request, without the query. */
  url: string
}

/** The token with this text, or the error for a text that is no token of a known app. */
export function findToken (state: GraphState, text: string, status = 400): Token | GraphError {
  const found = state.tokens.get(text)
  if (found) return found
  const [appId = '', rest] = text.split('|')
  if (rest === undefined) return tokenRefused(undefined, status)
  const app = state.apps.get(appId)
  if (!app) {
    return new GraphError(
      status,
      101,
      'Error validating application. Cannot get application info due to a system error.'
    )
  }
  // "{app_id}|{app_secret}" is valid wherever an app token is (Meta: Facebook Login, "Access Tokens").
  if (text !== app.app_token && rest !== app.app_secret) {
    return new GraphError(status, 190, 'Invalid OAuth access token signature.')
  }
  return { app, type: 'APP', expires_at: 0, scopes: [], waba_ids: [] }
}

/** The error for a revoked or expired token. */
export function tokenErrorOf (token: Token, status = 400): GraphError | undefined {
  if (token.revoked !== undefined) return tokenRefused(token.revoked, status)
  if (token.expires_at === 0 || token.expires_at > now()) return undefined
  const expired = new Date(token.expires_at * 1000).toUTCString()
  const message = `Error validating access token: Session has expired on ${expired}. ` +
    `The current time is ${new Date().toUTCString()}.`
  return new GraphError(status, 190, message, { error_subcode: 463 })
}

/** The valid token of the caller; throws the GraphError for an invalid one or a wrong `appsecret_proof`. */
export function authenticate (state: GraphState, { params, bearer }: Call): { text: string, token: Token } {
  const text = bearer ?? params.get('access_token')
  if (!text) throw new GraphError(401, 104, 'An access token is required to request this resource.')
  const status = bearer === undefined ? 400 : 401
  const token = findToken(state, text, status)
  if (token instanceof GraphError) throw token
  const tokenError = tokenErrorOf(token, status)
  if (tokenError) throw tokenError
  checkProof(token, text, params.get('appsecret_proof'))
  return { text, token }
}

// Meta: Graph API, "Secure Graph API Calls"
function checkProof ({ app }: Token, text: string, proof: string | null): void {
  if (proof === null && app.require_proof) {
    throw new GraphError(
      400,
      100,
      'API calls from the server require an appsecret_proof argument',
      { type: 'GraphMethodException' }
    )
  }
  if (proof !== null && proof !== createHmac('sha256', app.app_secret).update(text).digest('hex')) {
    throw new GraphError(
      400,
      100,
      'Invalid appsecret_proof provided in the API argument',
      { type: 'GraphMethodException' }
    )
  }
}
