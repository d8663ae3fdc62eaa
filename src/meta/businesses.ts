import { MetaWabaNotAccessible } from '../errors.js'
import type { GraphCalls } from './calls.js'
import { createPageReader } from './pages.js'
import { Node } from './replies.js'
import type { Call, MetaApp } from './types.js'

/** Bounds the calls of one search. */
const MAX_BUSINESSES = 20
const EDGES = ['owned_whatsapp_business_accounts', 'client_whatsapp_business_accounts']
const query = { fields: 'id', limit: '100' }

/** The calls about the businesses of a customer, with the customer's token. */
export function createBusinessCalls (calls: GraphCalls) {
  const { pathSegment } = calls
  const allPages = createPageReader(calls)

  return {
    /**
     * Lists the WABAs of the businesses that the token sees, for a token that names no WABA.
     * Source: developers.facebook.com/docs/marketing-api/reference/business
     *
     * @param signal the timeout of all its calls together
     * @throws as the calls about a WABA; MetaPermissionMissing without the permission business_management
     */
    async listBusinessAccounts (app: MetaApp, token: string, signal: AbortSignal): Promise<string[]> {
      const call: Call = { name: 'businesses', subject: 'customer' }
      const request = { ...call, app, token, method: 'GET', query, signal } as const
      const businesses = await allPages({ ...request, path: 'me/businesses' }, Node)
      const wabaIds = new Set<string>()
      for (const { id } of businesses.slice(0, MAX_BUSINESSES)) {
        const business = pathSegment(call, id, MetaWabaNotAccessible)
        for (const edge of EDGES) {
          const accounts = await allPages({ ...request, name: edge, path: `${business}/${edge}` }, Node)
          for (const account of accounts) wabaIds.add(account.id)
        }
      }
      return [...wabaIds]
    }
  }
}
