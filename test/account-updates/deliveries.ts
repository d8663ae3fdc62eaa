import { createHmac } from 'node:crypto'
import type { Test } from 'tap'
import type { EnvSource } from '../../src/app.js'
import { base, client, config } from '../routes/client.js'

export const accountUpdateUrl = `${base}/onboard/account-update`

/** The signature header's value for a webhook body. */
export const sign = (body: string | Buffer, secret: string) =>
  `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`

export const signedHeaders = (body: string | Buffer, secret: string) => ({
  'content-type': 'application/json',
  'x-hub-signature-256': sign(body, secret)
})

let bodies = 0
/** A number that no other webhook body contains: a body with the same bytes counts as a repeated delivery. */
export const uniqueNumber = () => ++bodies

/** A webhook body with one change; `time` is in unix seconds. The default `time` makes each body a new delivery. */
export function accountUpdate (
  event: string,
  { waba, entry = '524126980791429', time = uniqueNumber() }: { waba?: unknown, entry?: unknown, time?: unknown }
) {
  const info = waba === undefined ? {} : { waba_info: { waba_id: waba, owner_business_id: '524126980791429' } }
  return {
    object: 'whatsapp_business_account',
    entry: [{ id: entry, time, changes: [{ field: 'account_update', value: { event, ...info } }] }]
  }
}

export const APP_SECRET = 'the secret of the app'
export const FORMER_SECRET = 'a former app secret'
export const OLDER_SECRET = 'a much older app secret'
/** The setting FB_APP_SECRETS_PREVIOUS, with blanks and empty items. */
export const PREVIOUS_SECRETS = ` ${FORMER_SECRET} , ,${OLDER_SECRET},`
export const VERIFY_TOKEN = 'the v\u00e9rify & token'

/** The service with an app secret and a verify token, and functions that send webhooks to it. */
export async function webhookService (t: Test, env: EnvSource = {}) {
  const service = await client(t, {
    FB_APP_ID: '42',
    FB_APP_SECRET: APP_SECRET,
    FB_APP_SECRETS_PREVIOUS: PREVIOUS_SECRETS,
    WEBHOOK_VERIFY_TOKEN: VERIFY_TOKEN,
    ...env
  })
  const { as, call, sql, rows } = service
  let wabas = 0
  const storedState = async () => [
    await rows(),
    await sql('select * from token_watch order by tenant_id'),
    await sql('select * from account_states order by tenant_id'),
    await sql('select * from webhook_deliveries order by digest'),
    await sql('select * from events_outbox')
  ]

  /** Sends a body that is signed with a secret. */
  const post = async (body: string | Buffer, secret = APP_SECRET) =>
    await call({}, 'POST', accountUpdateUrl, body, signedHeaders(body, secret))

  return {
    ...service,
    post,

    /** Sends a signed body; returns status and code. */
    deliver: async (body: unknown) => (await post(typeof body === 'string' ? body : JSON.stringify(body))).is,

    /** Creates `count` tenants, each on its own account; returns the ids, which tenant and account share. */
    tenants: async (count: number): Promise<string[]> => {
      const ids = Array.from({ length: count }, () => `waba-${++wabas}`)
      for (const id of ids) await call(as(id), 'POST', config, { waba_id: id, access_token: `token-of-${id}` })
      return ids
    },

    isActive: async (tenantId: string) => (await call(as(tenantId), 'GET', config)).body['is_active'],

    /** Asserts that `work` writes nothing to the database. */
    assertNoWrites: async (t: Test, work: () => Promise<void>) => {
      const before = await storedState()
      await work()
      t.same(await storedState(), before)
    }
  }
}
