import type { Test } from 'tap'
import type { Route } from '../graph/faults.js'
import type { Grant } from '../graph/state.js'
import { app as platform, standIn } from '../meta/wire.js'
import { client, config, type Answer } from '../routes/client.js'

export const verifyUrl = `${config}/verify`
/** The callback of the platform's app. */
export const PLATFORM_CALLBACK = 'https://platform.example/hook'
/** The callback of a tenant. */
export const TENANT_CALLBACK = 'https://tenant.example/hook?a=b'

/** The calls of a verification of valid credentials, in order. */
export const CALLS: Route[] = ['debug_token', 'phone_numbers', 'subscriptions', 'phone']

interface Check { name: string, ok: boolean, detail: string }

const checksOf = ({ body }: Answer): Check[] => JSON.parse(JSON.stringify(body['checks']))

/** The names of the failed checks. */
export const failedChecks = (answer: Answer) => checksOf(answer).filter(({ ok }) => !ok).map(({ name }) => name)

/** The detail of a check. */
export const detailOf = (answer: Answer, name: string) => checksOf(answer).find((check) => check.name === name)?.detail

/**
 * Asserts the common form of every 200: four checks in order, `ok` as their conjunction, one sentence each.
 * No text of Meta and no token may appear.
 */
export function assertForm (t: Test, answer: Answer) {
  t.equal(answer.is, '200')
  const checks = checksOf(answer)
  t.strictSame(checks.map(({ name }) => name), ['token', 'assets', 'subscription', 'callback'])
  t.equal(answer.body['ok'], checks.every(({ ok }) => ok))
  for (const { detail } of checks) t.match(detail, /^[A-Z][^\n]+\.$/)
  t.notMatch(JSON.stringify(checks), /EAA|Error validating|Session|Unsupported|platform\.example|tenant\.example/)
}

/** The service with a stand-in of Meta, and functions that create tenants and verify their credentials. */
export async function verificationService (t: Test) {
  const { meta } = await standIn(t)
  const metaApp = meta.state.apps.get(platform.id)
  if (metaApp === undefined) throw new Error('the stand-in has no app')
  metaApp.callback_url = PLATFORM_CALLBACK
  const service = await client(t, {
    GRAPH_API_BASE_URL: meta.url,
    GRAPH_TIMEOUT_MS: 1500,
    FB_APP_ID: platform.id,
    FB_APP_SECRET: platform.secret,
    CALLBACK_URL: PLATFORM_CALLBACK
  })
  const { as, call, sql } = service
  t.beforeEach(() => {
    meta.clearFaults()
    meta.requests.length = 0
  })
  const issue = (grant: Partial<Grant> = {}) => meta.state.issueToken({ app_id: platform.id, ...grant })
  let tenants = 0

  return {
    ...service,
    meta,
    issue,

    /** The routes of the requests to the stand-in. */
    asked: () => meta.requests.map(({ route }) => route),

    /** Creates a tenant with credentials that are valid at Meta, unless `fields` or the options change them. */
    tenant: async (
      fields: object = {},
      { subscribed = true, override = undefined as string | undefined, grant = {} as Partial<Grant> } = {}
    ) => {
      const id = `tenant-${++tenants}`
      const subscription = override === undefined ? {} : { override: { url: override, verify_token: 'x' } }
      const waba = meta.state.addWaba({
        app_ids: [platform.id],
        subscriptions: subscribed ? { [platform.id]: subscription } : {}
      })
      const credentials = { waba_id: waba.id, phone_number_id: String(waba.phones[0]?.id), access_token: issue(grant) }
      t.equal((await call(as(id), 'POST', config, { ...credentials, ...fields })).is, '201')
      return { id, who: as(id), waba, ...credentials }
    },

    /** The stored configurations and token states as text, and the number of events. */
    stored: async () => await sql(`
      select
        (select jsonb_agg(to_jsonb(c) order by id)::text from tenant_configs c) as configs,
        (select jsonb_agg(to_jsonb(w) order by tenant_id)::text from token_watch w) as watch,
        (select count(*) from events_outbox) as events`),

    /** Verifies the stored credentials, or those of the body, and asserts which checks fail. */
    verified: async (t: Test, who: Record<string, string>, failed: string[], body?: object): Promise<Answer> => {
      const answer = await call(who, 'POST', verifyUrl, body)
      assertForm(t, answer)
      t.strictSame(failedChecks(answer), failed, JSON.stringify(checksOf(answer)))
      return answer
    }
  }
}
