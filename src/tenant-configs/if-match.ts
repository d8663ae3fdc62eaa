import type { Scope } from '../database/pool/scope.js'
import type { TenantConfigRow } from '../database/schema/tenant-configs.js'
import { ConfigNotFound, PreconditionFailed } from '../errors.js'

/** A stored row, with the entity tag of its version. */
export type TaggedRow = TenantConfigRow & { etag: string }

/** The entity tags of a header `If-Match`: the row must have one of them. `*` stands for any row. */
export type IfMatch = string[] | '*' | undefined

/** The condition of a write of a tenant's row, and who demands it. */
export interface WriteTerms extends Pick<Scope, 'actor'> { ifMatch?: IfMatch }

/** Returns the entity tags that a statement compares; null for any. */
export const tagsOf = (ifMatch: IfMatch) => Array.isArray(ifMatch) ? ifMatch : null

/** @throws with a condition: CONFIG_NOT_FOUND without a row, PRECONDITION_FAILED for a row of another version */
export function assertMatch (row: Pick<TaggedRow, 'etag'> | undefined, ifMatch: IfMatch): void {
  if (ifMatch === undefined) return
  if (row === undefined) throw new ConfigNotFound()
  if (ifMatch !== '*' && !ifMatch.includes(row.etag)) throw new PreconditionFailed()
}
