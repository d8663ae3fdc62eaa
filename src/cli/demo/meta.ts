interface Request { query: Record<string, string>, form: Record<string, string> }

interface State { wabas: Array<{ id: string, subscriptions: object }> }

/** What happens at Meta without the service; test/graph/README.md has all of it. Takes the URL of the stand-in. */
export function createMeta (url: string) {
  async function control<T = object> (method: string, action: string, sent?: object): Promise<T> {
    const reply = await fetch(`${url}/_control/${action}`, { method, ...(sent === undefined ? {} : { body: JSON.stringify(sent) }) })
    const text = await reply.text()
    if (!reply.ok) throw new Error(`The stand-in refuses ${action}: ${text}`)
    return JSON.parse(text)
  }

  return {
    /** The platform enters the webhook of its app in the dashboard. */
    enterWebhook: async (app: object, callbackUrl: string) => await control('POST', 'seed', { apps: [{ ...app, callback_url: callbackUrl }] }),

    /** A customer logs in and shares an account; returns the code that the browser comes back with. */
    async login (wabaId: string, redirectUri?: string): Promise<string> {
      const { code } = await control<{ code: string }>('POST', 'codes', { waba_ids: [wabaId], redirect_uri: redirectUri ?? null })
      return code
    },

    /** A user changes the password, which ends a token. */
    endToken: async (token: string) => await control('POST', 'revocations', { access_token: token, subcode: 460 }),

    /** A customer removes the app from an account, and Meta tells the app; returns how the deliveries were answered. */
    async remove (wabaId: string): Promise<{ statuses: number[] }> {
      const value = { event: 'PARTNER_REMOVED', waba_info: { waba_id: wabaId } }
      const body = { object: 'whatsapp_business_account', entry: [{ id: '350000000000000', changes: [{ field: 'account_update', value }] }] }
      const { statuses } = await control<{ statuses: number[] }>('POST', 'webhooks', { body, duplicates: 1 })
      return { statuses }
    },

    /** How often a code arrived at Meta. */
    async arrivals (code: string): Promise<{ arrivals: number }> {
      const requests = await control<Request[]>('GET', 'requests')
      return { arrivals: requests.filter(({ query, form }) => query['code'] === code || form['code'] === code).length }
    },

    /** Which apps are subscribed to an account. */
    async subscriptions (wabaId: string): Promise<{ subscriptions: string[] }> {
      const { wabas } = await control<State>('GET', 'state')
      return { subscriptions: wabas.filter(({ id }) => id === wabaId).flatMap(({ subscriptions }) => Object.keys(subscriptions)) }
    }
  }
}
