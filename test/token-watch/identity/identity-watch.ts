import type { Test } from 'tap'
import type { EnvSource } from '../../../src/app.js'
import { app as platform } from '../../meta/wire.js'
import { config } from '../../routes/client.js'
import { watch } from '../watch.js'

/** Settings without an app pair. */
export const BARE = { FB_APP_ID: undefined, FB_APP_SECRET: undefined }

/** Starts a Graph stand-in, and services whose tenants write accounts of it into their own rows. */
export async function watchIdentities (t: Test) {
  const { meta, own, issue, startService, reset } = await watch(t)
  return {
    meta,
    own,
    issue,
    reset,
    /** The routes of all calls, in order. */
    asked: () => meta.requests.map(({ route }) => route),
    /** Creates an account of an app with one number, and issues tokens that can read only this account. */
    account (app_id = platform.id) {
      const waba = meta.state.addWaba({ app_ids: [app_id] })
      const ids = { waba_id: waba.id, phone_number_id: String(waba.phones[0]?.id) }
      return { waba, ids, token: (more: object = {}) => issue({ app_id, waba_ids: [waba.id], ...more }) }
    },
    /** Revokes the token, as after a change of the password. */
    revoked (token: string): string {
      Object.assign(meta.state.tokens.get(token) ?? {}, { revoked: 460 })
      return token
    },
    startService: async (t: Test, env: EnvSource = {}) => withIdentities(t, await startService(t, env))
  }
}

/** Adds to a service: tenants write their rows through the API, and `verified` reads their verified ids. */
function withIdentities (t: Test, service: Awaited<ReturnType<Awaited<ReturnType<typeof watch>>['startService']>>) {
  const { app, as, sql } = service
  const write = async (method: 'POST' | 'PUT', tenant: string, body: object) => {
    const { statusCode } = await app.inject({ method, url: config, headers: as(tenant), payload: body })
    t.equal(statusCode, method === 'POST' ? 201 : 200)
  }
  return {
    ...service,
    post: async (tenant: string, body: object) => { await write('POST', tenant, body) },
    put: async (tenant: string, body: object) => { await write('PUT', tenant, body) },
    /** The verified account and number of a tenant; undefined if its current token is not verified. */
    async verified (tenant: string) {
      const [row] = await sql(`select v.waba_id, v.phone_number_id
        from verified_identities v join tenant_configs c using (tenant_id, waba_id)
        where tenant_id = $1 and last_verified_at is not null
          and v.phone_number_id is not distinct from c.phone_number_id`, [tenant])
      return row
    }
  }
}
