import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import type { TestApp } from '../../helper.js'

const CONFIG = '/api/v1/tenant/config'

/** A text that no response and no log may show. */
export const canary = `canary-${randomBytes(8).toString('hex')}`

const secrets = {
  access_token: `${canary}-token`,
  fb_app_secret: `${canary}-app`,
  verify_token: `${canary}-verify`,
  refresh_token: `${canary}-refresh`
}

/** Creates a configuration whose secrets are canaries. */
export const post = async ({ app, as }: TestApp, tenant: string, more: object = {}) =>
  await app.inject({ method: 'POST', url: CONFIG, headers: as(tenant), payload: { ...secrets, ...more } })

/** Requests the configuration of the tenant `acme`. */
export const get = async ({ app, as }: TestApp) => await app.inject({ url: CONFIG, headers: as('acme') })

/** Asserts the code of a response, and that neither it nor the log has a canary. */
export function assertFailed (
  t: Test,
  { log }: TestApp,
  response: { json: () => { code?: string }, body: string },
  code: string,
  what = code
): void {
  t.equal(response.json().code, code, what)
  t.notMatch(response.body, canary, `${what}: response`)
  t.notOk(log().includes(canary), `${what}: log`)
}
