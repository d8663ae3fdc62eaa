interface Request { query: Record<string, string>, form: Record<string, string> }

interface State { wabas: Array<{ id: string, subscriptions: object }> }

/** Creates the control of the Graph stand-in: events at Meta, made by hand. See test/graph/README.md. */
export function createMeta (url: string) {
  async function control<T = object> (method: string, action: string, sent?: object): Promise<T> {
    const body = sent === undefined ? {} : { body: JSON.stringify(sent) }
    const reply = await fetch(`${url}/_control/${action}`, { method, ...body })
    const text = await reply.text()
    if (!reply.ok) throw new Error(`The stand-in refuses ${action}: ${text}`)
    return JSON.parse(text)
  }

  return {
    /** The platform enters the webhook of its app in the dashboard. */
    enterWebhook: async (app: object, callbackUrl: string) =>
      await control('POST', 'seed', { apps: [{ ...app, callback_url: callbackUrl }] }),

    /** A customer logs in and shares an account. Returns the code of the login. */
    async login (wabaId: string, redirectUri?: string): Promise<string> {
      const login = { waba_ids: [wabaId], redirect_uri: redirectUri ?? null }
      const { code } = await control<{ code: string }>('POST', 'codes', login)
      return code
    },

    /** A user changes the password, which revokes a token. */
    revokeToken: async (token: string) =>
      await control('POST', 'revocations', { access_token: token, subcode: 460 }),

    /** A customer removes the app from an account, and Meta calls the webhook. Returns the statuses of the answers. */
    async removeApp (wabaId: string): Promise<{ statuses: number[] }> {
      const value = { event: 'PARTNER_REMOVED', waba_info: { waba_id: wabaId } }
      const entry = [{ id: '350000000000000', changes: [{ field: 'account_update', value }] }]
      const body = { object: 'whatsapp_business_account', entry }
      const { statuses } = await control<{ statuses: number[] }>('POST', 'webhooks', { body, duplicates: 1 })
      return { statuses }
    },

    /** Counts the arrivals of a code at Meta. */
    async countArrivals (code: string): Promise<{ arrivals: number }> {
      const requests = await control<Request[]>('GET', 'requests')
      return { arrivals: requests.filter(({ query, form }) => query['code'] === code || form['code'] === code).length }
    },

    /** Lists the apps that are subscribed to an account. */
    async listSubscriptions (wabaId: string): Promise<{ subscriptions: string[] }> {
      const { wabas } = await control<State>('GET', 'state')
      const account = wabas.find(({ id }) => id === wabaId)
      return { subscriptions: Object.keys(account?.subscriptions ?? {}) }
    }
  }
}
