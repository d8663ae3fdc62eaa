import type { Test } from 'tap'
import { client, config, full, onboard } from './client.js'

export const ids = ['waba_id', 'phone_number_id', 'fb_app_id']
export const secrets = ['access_token', 'fb_app_secret', 'verify_token', 'refresh_token']
export const urls = ['callback_url', 'redirect_url', 'redirect_uri']
/** The fields with text that is neither a URL nor a date. */
export const texts = [...ids, ...secrets, 'code', 'state']
/** A valid body of an onboarding. */
export const claims = { code: 'AQD', waba_id: '1', phone_number_id: '2' }
/** The other routes of the onboarding that accept a body, by the field that each accepts. */
const routesOfField = {
  redirect_uri: `${onboard}/start`,
  config_id: `${onboard}/start`,
  phone_number_id: `${onboard}/resume`
}

/** The service with one tenant that has a configuration, and functions that send values of one field. */
export async function valuesService (t: Test) {
  const service = await client(t)
  const { as, call, rows } = service
  const tenant = as('acme')
  const tenantWithoutRow = as('fresh')
  await call(tenant, 'POST', config, full)
  const before = await rows()

  /** Sends the value of one field to every route that accepts the field; returns the answers. */
  async function answers (field: string, value: unknown) {
    const found = []
    if (field in full) {
      found.push(
        await call(tenant, 'PUT', config, { [field]: value }),
        await call(tenantWithoutRow, 'POST', config, { [field]: value })
      )
    }
    if (field in claims || ['redirect_uri', 'state'].includes(field)) {
      found.push(await call(tenantWithoutRow, 'POST', onboard, { ...claims, [field]: value }))
    }
    for (const [name, url] of Object.entries(routesOfField)) {
      if (name === field && value !== null) {
        found.push(await call(tenantWithoutRow, 'POST', url, { [field]: value }))
      }
    }
    return found
  }

  return {
    ...service,
    tenant,
    tenantWithoutRow,
    answers,

    /** The rows before any request of a test. */
    before,

    /** Asserts that every value is refused under the name of its field, and that no row changes. */
    assertRefused: async (t: Test, fields: string[], values: unknown[], code = 'VALIDATION_FAILED') => {
      for (const field of fields) {
        for (const value of values) {
          for (const { is, body } of await answers(field, value)) {
            t.equal(is, `400 ${code}`, `${field} ${JSON.stringify([value]).replace(/[^ -~]/g, '?').slice(0, 60)}`)
            if (code === 'VALIDATION_FAILED') t.match(body.errors, [{ field, message: /^must / }])
          }
        }
      }
      t.same(await rows(), before)
    }
  }
}
