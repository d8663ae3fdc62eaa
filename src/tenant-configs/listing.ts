import type { Database } from '../database/database.js'
import type { Reader } from '../database/connection.js'
import type { TenantConfigRow } from '../database/schema/tenant-configs.js'
import { onlyRow } from '../database/statement.js'
import { InvalidCursor } from '../errors.js'
import type { TokenStatus } from '../schemas/statuses.js'
import { isTenantId } from './tenant-id.js'
import { statsQuery, type StatsRow } from './stats.sql.js'
import { countQuery, list, listByFlags, listByTokenStatus } from './tenant-configs.sql.js'

export interface ListQuery {
  limit: number
  /** `next` of the previous page. */
  cursor?: string | undefined
  is_active?: boolean | undefined
  onboarding_completed?: boolean | undefined
  /** A literal prefix of tenant ids. */
  tenant_id?: string | undefined
  token_status?: TokenStatus | undefined
}

// A tenant id has at most 100 characters: none with a prefix sorts after the prefix and this.
const AFTER_ANY_ID = '\u{10FFFF}'.repeat(101)

/** Creates the reads over all tenants. All methods throw `DATABASE_UNAVAILABLE`. */
export function createListing ({ database }: { database: Pick<Database, 'run'> }) {
  return {
    /**
     * Returns a page of rows in the order of their tenant ids, with secrets as `****` or null.
     *
     * @returns `next`: the cursor of the next page; null on the last one
     * @throws INVALID_CURSOR
     */
    async list (
      { limit, cursor, is_active, onboarding_completed, tenant_id: prefix = '', token_status }: ListQuery
    ): Promise<{ configs: TenantConfigRow[], next: string | null }> {
      const isFiltered = is_active !== undefined || onboarding_completed !== undefined
      const statement = token_status !== undefined ? listByTokenStatus : isFiltered ? listByFlags : list
      const pairs = allowedValues(is_active).flatMap((active) =>
        allowedValues(onboarding_completed).map((onboarded) => ({ active, onboarded })))
      const rows = await database.run(statement, {
        after: cursor === undefined ? '' : tenantIdOf(cursor),
        from: prefix,
        to: prefix + AFTER_ANY_ID,
        is_active: pairs.map(({ active }) => active),
        onboarding_completed: pairs.map(({ onboarded }) => onboarded),
        token_status,
        limit: limit + 1
      })
      // The last row of the page, when another row follows.
      const [last] = rows.slice(limit - 1, -1)
      return { configs: rows.slice(0, limit), next: last === undefined ? null : cursorAfter(last.tenant_id) }
    },

    /** Returns the counts of the statistics, all from one snapshot; by `reader` in place of the pool. */
    stats: async (reader?: Reader): Promise<StatsRow> => onlyRow(reader === undefined
      ? await database.run(statsQuery)
      : (await reader.execute<StatsRow>(statsQuery)).rows),

    /** Counts the rows. */
    count: async (): Promise<number> => onlyRow(await database.run(countQuery)).count
  }
}

/** Returns the cursor of the tenants after this one. Its encoding marks it as opaque to clients. */
export const cursorAfter = (tenantId: string) => Buffer.from(tenantId).toString('base64url')

/** @throws INVALID_CURSOR */
export function tenantIdOf (cursor: string): string {
  const tenantId = Buffer.from(cursor, 'base64url').toString()
  if (!isTenantId(tenantId) || cursorAfter(tenantId) !== cursor) throw new InvalidCursor()
  return tenantId
}

/** Returns the values of a flag that pass its filter. */
const allowedValues = (flag?: boolean) => flag === undefined ? [true, false] : [flag]
