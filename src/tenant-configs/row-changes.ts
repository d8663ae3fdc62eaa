import type { Database } from '../database/database.js'
import type { Queryable, Values } from '../database/statement.js'
import { ConfigNotFound } from '../errors.js'
import { tagsOf, type IfMatch, type TaggedRow, type WriteTerms } from './if-match.js'
import type { ConfigInput, RowSecrets } from './row-secrets.js'
import { emptyValues, find, findLocked, setActive, update } from './tenant-configs.sql.js'

type Ids = Partial<Pick<TaggedRow, 'phone_number_id' | 'waba_id'>>

interface RowChangesDependencies {
  database: Pick<Database, 'ofTenant'>
  secrets: Pick<RowSecrets, 'seal' | 'tryOpen'>
  /** Throws as `assertMatch`. */
  findRow: (tenantId: string, ifMatch: IfMatch) => Promise<TaggedRow | null>
  writeAndNotify: <T>(changedTenants: Set<string>, write: () => Promise<T>, ids?: Ids) => Promise<T>
  notify: (tenantId: string, ids: Ids) => void
}

/**
 * Creates the changes of a stored row.
 *
 * @throws by all of them, with nothing written: CONFIG_NOT_FOUND, PRECONDITION_FAILED
 */
export function createRowChanges ({ database, secrets, findRow, writeAndNotify, notify }: RowChangesDependencies) {
  return {
    /**
     * Writes the fields of the input. Other ids end the verified identity; another token keeps it and is unverified.
     *
     * @throws MASKED_VALUE
     */
    async update (
      tenantId: string, input: ConfigInput, { ifMatch, actor }: WriteTerms = {}
    ): Promise<TaggedRow> {
      const scoped = database.ofTenant(tenantId, actor)
      const values = {
        ...emptyValues,
        ...secrets.seal(tenantId, input),
        tenant_id: tenantId,
        fields: Object.keys(input),
        if_match: tagsOf(ifMatch),
        stored_token: null,
        same_token: false
      }
      const { access_token: token } = input
      return await change(tenantId, ifMatch, async () => {
        if (token === undefined) return await scoped.run(update, values)
        const rows = await updateToken(scoped, find, values, token)
        if (rows.length > 0) return rows
        // Another ciphertext was stored after the read, of another token or of the same one. The lock excludes that.
        return await scoped.transaction(async (tx) => await updateToken(tx, findLocked, values, token))
      }, input)
    },

    async setActive (
      tenantId: string, isActive: boolean, { ifMatch, actor }: WriteTerms = {}
    ): Promise<TaggedRow> {
      const values = { tenant_id: tenantId, is_active: isActive, if_match: tagsOf(ifMatch) }
      const row = await change(tenantId, ifMatch, async () =>
        await database.ofTenant(tenantId, actor).run(setActive, values))
      // Lookups by number or account may have cached 'nobody'; invalidate them too.
      notify(tenantId, row)
      return row
    }
  }

  /** Updates the row after a comparison with the stored token, in clear: each ciphertext of a token differs. */
  async function updateToken (
    db: Pick<Queryable, 'run'>, read: typeof find, values: Values & { tenant_id: string }, token: string | null
  ): Promise<TaggedRow[]> {
    const [row] = await db.run(read, values)
    const stored = row?.access_token ?? null
    const clear = stored === null ? null : secrets.tryOpen(stored, values.tenant_id, 'access_token')
    return await db.run(update, { ...values, stored_token: stored, same_token: clear === token })
  }

  /** Writes a row, or throws why the write found none. */
  async function change (
    tenantId: string, ifMatch: IfMatch, write: () => Promise<TaggedRow[]>, ids?: Ids
  ): Promise<TaggedRow> {
    const [row] = await writeAndNotify(new Set([tenantId]), write, ids)
    if (row !== undefined) return row
    await findRow(tenantId, ifMatch)
    throw new ConfigNotFound()
  }
}
