import type { Test } from 'tap'
import type { EnvSource } from '../../src/app.js'
import { createResumption } from '../../src/account-updates/resumption.js'
import type { TenantEvent } from '../../src/events/events.js'
import { buildTestApp, createDatabase, queries, until } from '../helper.js'
import { app as platform, standIn } from '../meta/wire.js'
import { config } from '../routes/client.js'
import { accountUpdate, accountUpdateUrl, signedHeaders, uniqueNumber } from './deliveries.js'

/** Starts a Graph stand-in and a service that calls it. */
export async function resumptionService (t: Test, settings: EnvSource = {}) {
  const { meta } = await standIn(t)
  const DATABASE_URL = await createDatabase(t, { watched: true })
  const env = {
    GRAPH_API_BASE_URL: meta.url,
    FB_APP_ID: platform.id,
    FB_APP_SECRET: platform.secret,
    DATABASE_URL,
    ...settings
  }
  const service = await buildTestApp(t, env)
  const { app, as, log } = service
  const sql = queries(t, DATABASE_URL)
  const events: TenantEvent[] = []
  app.events.onEvent((event) => { events.push(event) })
  let tenants = 0

  const request = async (tenant: string, method: 'POST' | 'PUT', url: string, payload?: object) => {
    const { statusCode } = await app.inject({ method, url, headers: as(tenant), ...payload && { payload } })
    t.ok(statusCode < 300, `${method} ${url}: ${statusCode}`)
  }
  const deliver = async (event: string, waba: string, banState: string | null = null) => {
    const update = accountUpdate(event, { waba, time: null })
    if (banState !== null) {
      Object.assign(update.entry[0]?.changes[0]?.value ?? {}, { ban_info: { waba_ban_state: banState } })
    }
    const body = JSON.stringify({ ...update, nonce: uniqueNumber() })
    const headers = signedHeaders(body, String(env.FB_APP_SECRET))
    const { statusCode } = await app.inject({ method: 'POST', url: accountUpdateUrl, payload: body, headers })
    t.equal(statusCode, 200)
  }
  const stateOf = async (tenant: string) => {
    const [row] = await sql(`select is_active, status, turned_off, resume_at,
        (extract(epoch from resume_at - now()) * 1000)::float8 as wait
      from tenant_configs join account_states using (tenant_id) where tenant_id = $1`, [tenant])
    return row ?? {}
  }

  return {
    ...service,
    env,
    meta,
    sql,
    events,
    request,
    deliver,
    stateOf,
    /** The account events of a tenant, in order. */
    told: (tenant: string) => events.filter((event) => event.tenant_id === tenant && event.type.startsWith('account.'))
      .map(({ type, from, to, reason }) => [type, from, to, reason]),
    /** The routes of the calls to Meta. */
    asked: () => meta.requests.map(({ route }) => route),
    until: async (tenant: string, condition: (state: Record<string, unknown>) => boolean) => {
      await until(async () => condition(await stateOf(tenant)))
    },

    /** Creates a tenant with an account, a number and a token at Meta, and suspends it. */
    async suspended (more: object = {}, { appId = platform.id, hasNumber = true } = {}) {
      const waba = meta.state.addWaba({ app_ids: [appId] })
      const token = meta.state.issueToken({ app_id: appId, waba_ids: [waba.id] })
      const id = `tenant-${++tenants}`
      const ids = { waba_id: waba.id, ...hasNumber && { phone_number_id: String(waba.phones[0]?.id) } }
      await request(id, 'POST', config, { ...ids, access_token: token, ...more })
      await deliver('ACCOUNT_OFFBOARDED', waba.id)
      t.match(await stateOf(id), { is_active: false, status: 'suspended', turned_off: true, resume_at: null })
      meta.requests.length = 0
      return { id, waba, token }
    },

    /** Checks all due tenants once, as another process would. */
    async checkAllDue (): Promise<void> {
      const { database, vault, metaGraph, tenantConfigs, tokenWatch, events, audit, closing } = app
      const resumption = createResumption({
        database, vault, metaGraph, tenantConfigs, tokenWatch, events, audit, timeoutMs: 2000, closing, log: app.log
      })
      resumption.start()
      await resumption.stop()
    },

    /** The number of log lines with a text. */
    logged: (text: string) => log().split(text).length - 1
  }
}
