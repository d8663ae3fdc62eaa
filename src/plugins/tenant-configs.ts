import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { secretColumns, tenantConfigs as table, type SecretColumn, type TenantConfigRow } from '../db/schema.js'
import { removeAllQuery, statsQuery, tenantConfigStatements, type WritableColumn } from '../db/tenant-configs.js'
import { ConfigExists, ConfigNotFound, ConfirmationMismatch, DatabaseUnavailable, MaskedValue } from '../errors.js'
import { isMasked, mask, MASK } from '../masking.js'
import { guarded } from './database.js'
import type { Vault } from './vault.js'

export type { TenantConfigRow } from '../db/schema.js'

/** What a client writes, in clear: a column left out stays, null clears it. Times are RFC 3339. */
export type ConfigInput = Partial<Record<WritableColumn, string | null>>

/** What an onboarding proved, in clear. */
export interface ProvenIdentity {
  waba_id: string
  phone_number_id: string
  access_token: string
  token_expires_at: string | null
}

export interface ListQuery {
  limit: number
  cursor?: string | undefined
  is_active?: boolean | undefined
  onboarding_completed?: boolean | undefined
  tenant_id?: string | undefined
}

/** The numbers of the statistics, before they are arranged as JSON. */
export type StatsRow = Record<'total' | 'active' | 'inactive' | 'onboarded' | 'pending' | 'expired' | 'expiring_7d' | 'expiring_30d' | 'no_expiry' | 'missing', number>

/** Told of a write to one tenant's row, or to any (null); `isSettled` is false when nobody knows whether it was, or yet will be, carried out. */
export type ChangeListener = (tenantId: string | null, isSettled: boolean) => void

export type TenantConfigs = ReturnType<typeof createTenantConfigs>

declare module 'fastify' {
  interface FastifyInstance { tenantConfigs: TenantConfigs }
}

const unset: Record<WritableColumn, string | null> = {
  waba_id: null,
  phone_number_id: null,
  access_token: null,
  fb_app_id: null,
  fb_app_secret: null,
  callback_url: null,
  redirect_url: null,
  verify_token: null,
  token_expires_at: null,
  refresh_token: null
}

// No tenant id has more than 100 characters, so none that begins with a prefix sorts after prefix + this.
const LAST = '\u{10FFFF}'.repeat(101)

/**
 * The one way to the rows of `tenant_configs`: it seals what is written and tells listeners of every write.
 * All methods throw `DATABASE_UNAVAILABLE` when the database does not answer.
 */
export function createTenantConfigs ({ orm, vault }: { orm: NodePgDatabase, vault: Vault }) {
  const statements = tenantConfigStatements(orm)
  const listeners = new Set<ChangeListener>()

  /** Waits for a write and tells the listeners, also when it failed: a lost answer does not mean that nothing was written. */
  async function written<T> (tenantId: string | null, query: Promise<T>): Promise<T> {
    const tell = (isSettled: boolean) => { for (const listener of listeners) listener(tenantId, isSettled) }
    return await guarded(query).then((result) => {
      tell(true)
      return result
    }, (err: unknown) => {
      tell(!(err instanceof DatabaseUnavailable))
      throw err
    })
  }

  /** The columns as they are stored; what the input leaves out is null. */
  function sealed (tenantId: string, input: ConfigInput) {
    const values = { ...unset, ...input }
    for (const column of secretColumns) {
      const clear = values[column]
      if (clear === null) continue
      if (isMasked(clear)) throw new MaskedValue()
      values[column] = vault.seal(clear, tenantId, column)
    }
    // PostgreSQL takes no offset of 16 hours or more, and rounds 9999-12-31T23:59:59.9999999Z up to a year it writes with five digits.
    if (values.token_expires_at !== null) values.token_expires_at = new Date(values.token_expires_at).toISOString()
    return values
  }

  /** Opens a secret; undefined when it does not open. */
  function opened (stored: string, tenantId: string, column: SecretColumn): string | undefined {
    try {
      return vault.open(stored, tenantId, column)
    } catch {
      return undefined
    }
  }

  /** Returns the row with its secrets sealed, or null. */
  async function find (tenantId: string): Promise<TenantConfigRow | null> {
    const [row] = await guarded(statements.find.execute({ tenant_id: tenantId }))
    return row ?? null
  }

  /** The row with each of its secrets replaced by what `show` makes of it. */
  function withSecrets (row: TenantConfigRow, show: (sealed: string, column: SecretColumn) => string | null): TenantConfigRow {
    const shown = { ...row }
    for (const column of secretColumns) {
      const stored = row[column]
      if (stored !== null) shown[column] = show(stored, column)
    }
    return shown
  }

  return {
    find,

    /** Makes the tenant's row and returns it. Throws `CONFIG_EXISTS`, `PHONE_NUMBER_TAKEN`, `MASKED_VALUE`. */
    async create (tenantId: string, userId: string | null, input: ConfigInput): Promise<TenantConfigRow> {
      const values = { ...sealed(tenantId, input), tenant_id: tenantId, user_id: userId }
      const [row] = await written(tenantId, statements.insert.execute(values))
      if (row === undefined) throw new ConfigExists()
      return row
    },

    /**
     * Writes what the input has and returns the row. An identity that changes is no longer proven.
     * Throws `CONFIG_NOT_FOUND`, `PHONE_NUMBER_TAKEN`, `MASKED_VALUE`.
     */
    async update (tenantId: string, input: ConfigInput): Promise<TenantConfigRow> {
      const { access_token: token } = input
      const values = sealed(tenantId, input)
      // Ciphertexts differ each time, so only opening the stored one tells whether it is the same token again.
      const held = token === undefined ? null : (await find(tenantId))?.access_token ?? null
      const same = held === null ? token === null : opened(held, tenantId, 'access_token') === token
      const [row] = await written(tenantId, statements.update.execute({ ...values, tenant_id: tenantId, fields: Object.keys(input), same_token: same, held_token: held }))
      if (row === undefined) throw new ConfigNotFound()
      return row
    },

    /** Turns the tenant on or off and returns the row. Throws `CONFIG_NOT_FOUND`. */
    async setActive (tenantId: string, active: boolean): Promise<TenantConfigRow> {
      const [row] = await written(tenantId, statements.setActive.execute({ tenant_id: tenantId, is_active: active }))
      if (row === undefined) throw new ConfigNotFound()
      return row
    },

    /** Deletes the tenant's row. Throws `CONFIG_NOT_FOUND`. */
    async remove (tenantId: string): Promise<void> {
      const rows = await written(tenantId, statements.remove.execute({ tenant_id: tenantId }))
      if (rows.length === 0) throw new ConfigNotFound()
    },

    /** Stores what an onboarding proved and activates the tenant; `created` says that it had no row. Throws `PHONE_NUMBER_TAKEN`. */
    async completeOnboarding (tenantId: string, userId: string | null, proven: ProvenIdentity): Promise<{ created: boolean, config: TenantConfigRow }> {
      const values = { ...proven, tenant_id: tenantId, user_id: userId, access_token: vault.seal(proven.access_token, tenantId, 'access_token') }
      const { created, ...config } = only(await written(tenantId, statements.onboard.execute(values)))
      return { created, config }
    },

    /** A page of rows by tenant id, their secrets `****` or null, and where the next page starts (null on the last one). */
    async list ({ limit, cursor = '', is_active, onboarding_completed, tenant_id: prefix = '' }: ListQuery): Promise<{ configs: TenantConfigRow[], next: string | null }> {
      const rows = await guarded(statements.list.execute({ after: cursor, from: prefix, to: prefix + LAST, is_active: is_active ?? null, onboarding_completed: onboarding_completed ?? null, limit: limit + 1 }))
      // The last of the page, if there is one more after it.
      const [last] = rows.slice(limit - 1, -1)
      return { configs: rows.slice(0, limit), next: last?.tenant_id ?? null }
    },

    /** The counts of the statistics, all of one moment. */
    stats: async (): Promise<StatsRow> => only((await guarded(orm.execute<StatsRow>(statsQuery))).rows),

    /** How many rows there are. */
    count: async (): Promise<number> => await guarded(orm.$count(table)),

    /** Deletes all rows if there are exactly `expected`. Throws `CONFIRMATION_MISMATCH`, having deleted none, if not. */
    async removeAll (expected: number): Promise<void> {
      const { rows } = await written(null, orm.execute<{ total: number }>(removeAllQuery(expected)))
      if (only(rows).total !== expected) throw new ConfirmationMismatch()
    },

    /** The row in clear. Throws `SECRET_UNREADABLE`. */
    reveal: (row: TenantConfigRow) => withSecrets(row, (stored, column) => vault.open(stored, row.tenant_id, column)),

    /** The row with masked secrets. Throws `SECRET_UNREADABLE`. */
    masked: (row: TenantConfigRow) => withSecrets(row, (stored, column) => mask(vault.open(stored, row.tenant_id, column))),

    /** The row with masked secrets after a write, which one that does not open must not fail: it reads `****`. */
    maskedAfterWrite: (row: TenantConfigRow) => withSecrets(row, (stored, column) => mask(opened(stored, row.tenant_id, column) ?? MASK)),

    /** Calls `listener` after each write. Returns how to stop that. */
    onChange (listener: ChangeListener): () => void {
      listeners.add(listener)
      return () => { listeners.delete(listener) }
    }
  }
}

/** The row of a statement that answers one, unless somebody's trigger keeps it back. */
function only<T> ([row]: T[]): T {
  if (row === undefined) throw new Error('a statement returned no row')
  return row
}

/** Decorates `fastify.tenantConfigs`. */
async function tenantConfigs (fastify: FastifyInstance): Promise<void> {
  fastify.decorate('tenantConfigs', createTenantConfigs({ orm: fastify.database.orm, vault: fastify.vault }))
}

export default fp(tenantConfigs, { name: 'tenant-configs', dependencies: ['database', 'vault'] })
