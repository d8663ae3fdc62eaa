import type { Database } from '../database/database.js'
import { ConfigChanging, ConfigNotFound } from '../errors.js'
import { tagsOf, type IfMatch, type TaggedRow } from './if-match.js'
import type { ConfigInput, RowSecrets } from './row-secrets.js'
import { emptyValues, setActive, update } from './tenant-configs.sql.js'

/** Bounds the attempts at a write whose row changes between its read and its write. */
const MAX_ATTEMPTS = 5

type Ids = Partial<Pick<TaggedRow, 'phone_number_id' | 'waba_id'>>

interface RowChangesDependencies {
  database: Pick<Database, 'run'>
  secrets: Pick<RowSecrets, 'seal' | 'tryOpen'>
  /** Finds the row; throws as `assertMatch`. */
  find: (tenantId: string, ifMatch?: IfMatch) => Promise<TaggedRow | null>
  writeAndNotify: <T>(changedTenants: Set<string>, write: () => Promise<T>, ids?: Ids) => Promise<T>
  notify: (tenantId: string, ids: Ids) => void
}

/**
 * Creates the changes of a stored row.
 *
 * @throws by all of them, with nothing written: CONFIG_NOT_FOUND, PRECONDITION_FAILED, CONFIG_CHANGING
 */
export function createRowChanges ({ database, secrets, find, writeAndNotify, notify }: RowChangesDependencies) {
  return {
    /**
     * Writes the fields of the input. Other ids end the verified identity; another token keeps it and is unverified.
     *
     * @throws MASKED_VALUE
     */
    async update (tenantId: string, input: ConfigInput, ifMatch?: IfMatch): Promise<TaggedRow> {
      const values = {
        ...emptyValues,
        ...secrets.seal(tenantId, input),
        tenant_id: tenantId,
        fields: Object.keys(input),
        if_match: tagsOf(ifMatch)
      }
      return await change(tenantId, ifMatch, async () =>
        await database.run(update, { ...values, ...await compareToken(tenantId, input.access_token) }), input)
    },

    async setActive (tenantId: string, isActive: boolean, ifMatch?: IfMatch): Promise<TaggedRow> {
      const values = { tenant_id: tenantId, is_active: isActive, if_match: tagsOf(ifMatch) }
      const row = await change(tenantId, ifMatch, async () => await database.run(setActive, values))
      // Lookups by number or account may have cached 'nobody'; invalidate them too.
      notify(tenantId, row)
      return row
    }
  }

  /** Writes a row; again when the write found another row than it had read. */
  async function change (
    tenantId: string, ifMatch: IfMatch, write: () => Promise<TaggedRow[]>, ids?: Ids
  ): Promise<TaggedRow> {
    for (let attempt = 1; attempt <= MAX_ATTEMPTS; attempt++) {
      const [row] = await writeAndNotify(new Set([tenantId]), write, ids)
      if (row !== undefined) return row
      if (await find(tenantId, ifMatch) === null) throw new ConfigNotFound()
    }
    throw new ConfigChanging()
  }

  /** Compares a new token with the stored one, in clear: each ciphertext of a token differs. */
  async function compareToken (tenantId: string, token: string | null | undefined) {
    const stored = token === undefined ? null : (await find(tenantId))?.access_token ?? null
    const isSame = stored === null ? token === null : secrets.tryOpen(stored, tenantId, 'access_token') === token
    return { same_token: isSame, stored_token: stored }
  }
}
