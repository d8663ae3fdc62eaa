import type { Test } from 'tap'
import { startWithClient } from '../http/client.js'

/**
 * Starts the stand-in with an app, a token of its customer (`bearer`) and a token of another app (`stranger`).
 * `account` adds a WABA with one phone number, and returns functions that call their routes.
 */
export async function startWithAccounts (t: Test) {
  const { graph, state, call } = await startWithClient(t)
  const app = state.addApp({ callback_url: 'https://platform.example/webhooks' })
  const other = state.addApp()
  const bearer = state.issueToken({ app_id: app.app_id })
  const stranger = state.issueToken({ app_id: other.app_id })

  function account (seed: object = {}) {
    const waba = state.addWaba({ app_ids: [app.app_id], ...seed })
    const [phone] = waba.phones
    if (!phone) throw new Error('there is no phone')
    const edge = `/v26.0/${waba.id}/subscribed_apps`
    return {
      waba,
      phone,
      subscribed: () => call(edge, {}, { bearer }),
      subscribe: (form: Record<string, string> = {}) => call(edge, {}, { bearer, form }),
      subscribeJson: (json: object) => call(edge, {}, { bearer, json }),
      unsubscribe: () => call(edge, {}, { bearer, method: 'DELETE' }),
      changePhone: (json: object) => call(`/v26.0/${phone.id}`, {}, { bearer, json }),
      fields: async (fields: string) => (await call(`/v26.0/${phone.id}`, { fields }, { bearer })).body,
      register: (pin?: unknown, more: object = { messaging_product: 'whatsapp' }) => call(
        `/v26.0/${phone.id}/register`,
        {},
        { bearer, json: { ...more, pin } }
      ),
      deregister: () => call(`/v26.0/${phone.id}/deregister`, {}, { bearer, method: 'POST' })
    }
  }

  return { graph, state, call, app, bearer, stranger, account }
}
