import { CHARACTER } from '../schemas/fields.js'

const TENANT_ID = new RegExp(`^${CHARACTER}{1,100}$`, 'u')
const META_ID = new RegExp(`^${CHARACTER}{1,255}$`, 'u')

/**
 * Whether a value can be a tenant id: 1 to 100 code points without control characters. It has no lone surrogate: in
 * UTF-8 two such ids would be equal.
 */
export function isTenantId (value: unknown): value is string {
  return typeof value === 'string' && TENANT_ID.test(value)
}

/** Whether a value can be the id of a phone number or WABA in a row: as a tenant id, but up to 255 code points. */
export function isMetaId (value: string): boolean {
  return META_ID.test(value)
}
