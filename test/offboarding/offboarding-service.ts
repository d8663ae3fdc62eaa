import type { Test } from 'tap'
import { startWithMetaFault } from '../fixtures/fault-injection.js'
import { verifyStored } from '../fixtures/verified-rows.js'
import type { Fault } from '../graph/faults.js'
import type { Waba } from '../graph/state.js'
import { app as platform, standIn } from '../meta/wire.js'
import { client, config, type Answer } from '../routes/client.js'

export const offboardUrl = `${config}?unsubscribe=true`
export const forceOffboardUrl = `${offboardUrl}&force=true`

/** The service with a stand-in of Meta, and functions that create and check tenants. */
export async function offboardingService (t: Test) {
  const { meta } = await standIn(t)
  const env = {
    GRAPH_API_BASE_URL: meta.url,
    GRAPH_TIMEOUT_MS: 1500,
    FB_APP_ID: platform.id,
    FB_APP_SECRET: platform.secret
  }
  const service = await client(t, env)
  const { as, call, app } = service
  t.beforeEach(() => {
    meta.clearFaults()
    meta.requests.length = 0
  })
  const issue = (appId = platform.id) => meta.state.issueToken({ app_id: appId })
  const newWaba = (apps = [platform.id]) => meta.state.addWaba({
    app_ids: apps,
    subscriptions: Object.fromEntries(apps.map((id) => [id, {}]))
  })
  let tenants = 0

  return {
    ...service,
    env,
    meta,
    issue,
    newWaba,

    /** The number of unsubscribe calls to Meta. */
    unsubscribeCalls: () => meta.requests.filter(({ route }) => route === 'unsubscribe').length,

    /** Creates a tenant on an account whose webhooks go to our app; verified unless the fields remove the account. */
    tenant: async (fields: object = {}, waba: Waba = newWaba()) => {
      const id = `tenant-${++tenants}`
      t.equal(
        (await call(as(id), 'POST', config, {
          waba_id: waba.id,
          phone_number_id: `phone of ${id}`,
          access_token: issue(),
          ...fields
        })).is,
        '201'
      )
      await verifyStored(app, id)
      return { id, who: as(id), waba }
    },

    /** Asserts that the configuration of the tenant is deleted, or is not. */
    assertDeleted: async (t: Test, who: Record<string, string>, deleted = true) => {
      t.equal((await call(who, 'GET', config)).is, deleted ? '404 CONFIG_NOT_FOUND' : '200')
    },

    /** Starts an offboarding whose unsubscribe call meets a fault; returns once Meta has that call. */
    startOffboardingWithFault: async (
      who: Record<string, string>, fault: Fault, url = offboardUrl
    ): Promise<{ answer: Promise<Answer> }> =>
      await startWithMetaFault(meta, 'unsubscribe', fault, async () => await call(who, 'DELETE', url))
  }
}
