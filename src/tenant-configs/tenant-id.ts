import { CHARACTER } from '../schemas/fields.js'

const TENANT_ID = new RegExp(`^${CHARACTER}{1,100}$`, 'u')
const META_ID = new RegExp(`^${CHARACTER}{1,255}$`, 'u')

/**
 * Says whether a value can name a tenant: a string of 1 to 100 code points without control characters.
 * A lone surrogate is refused too: in UTF-8 two such ids would become one.
 */
export function isTenantId (value: unknown): value is string {
  return typeof value === 'string' && TENANT_ID.test(value)
}

/** Says whether a value can be the id of a phone number or of a WhatsApp Business Account in a row: as a tenant's, of up to 255 code points. */
export function isMetaId (value: string): boolean {
  return META_ID.test(value)
}
