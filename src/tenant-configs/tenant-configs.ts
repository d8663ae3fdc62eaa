import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Database } from '../database/database.js'
import type { Scope } from '../database/pool/scope.js'
import type { TenantConfigRow } from '../database/schema/tenant-configs.js'
import { onlyRow, type Queryable } from '../database/statement.js'
import { ConfigExists, ConfigNotFound, ConfirmationMismatch, PhoneNumberTaken } from '../errors.js'
import type { Vault } from '../vault/vault.js'
import { assertMatch, type IfMatch, type TaggedRow } from './if-match.js'
import { createListing } from './listing.js'
import {
  endTenantOnboardings, purgeVersions, removeAllTenants, removeOffboardedQuery, removeTenant, type Removal,
  type RemovalTerms
} from './removal.sql.js'
import { createRowChanges } from './row-changes.js'
import { createRowSecrets, type ConfigInput } from './row-secrets.js'
import { emptyValues, find, insert } from './tenant-configs.sql.js'
import {
  completeIdentity, lockIdentity, saveVerifiedIdentity, upsertIdentity, verifiedNumber,
  type LockedIdentity, type OnboardedIdentity, type VerifiedIdentity, type VerifiedOutcome
} from './verified-identities.sql.js'
import { createVersions } from './versions/versions.js'
import { policyQuery } from './versions/versions.sql.js'

export type { TenantConfigRow } from '../database/schema/tenant-configs.js'
export type { IfMatch, TaggedRow } from './if-match.js'
export type { RemovalTerms } from './removal.sql.js'
export type { ConfigInput } from './row-secrets.js'
export type { OnboardedIdentity, VerifiedIdentity, VerifiedOutcome } from './verified-identities.sql.js'

/** The ids by which lookups find a row, or found it before. */
export type RowChange = [tenantId: string, phoneNumberId: string | null, wabaId: string | null]

/** Called after a write, with the new ids of the row where the write has them; null after a write to all rows. */
type ChangeListener = (change: RowChange | null) => void

type Ids = Partial<Pick<TenantConfigRow, 'phone_number_id' | 'waba_id'>>

export type TenantConfigs = ReturnType<typeof createTenantConfigs>

declare module 'fastify' {
  interface FastifyInstance { tenantConfigs: TenantConfigs }
}

/**
 * Creates the only access to the rows of `tenant_configs`, which seals secrets and notifies listeners of every write.
 * All methods throw `DATABASE_UNAVAILABLE` when the database does not answer.
 */
export function createTenantConfigs (
  { database, vault }: {
    database: Pick<Database, 'as' | 'ofTenant' | 'transaction' | 'retryDeadlock'>
    vault: Pick<Vault, 'seal' | 'open' | 'mask'>
  }
) {
  const secrets = createRowSecrets({ vault })
  const listeners = new Set<ChangeListener>()
  const asAdmin = database.as({ role: 'admin' })

  return {
    ...createListing({ database: asAdmin }),
    ...createRowChanges({ database, secrets, findRow, writeAndNotify, notify }),
    versions: createVersions({ database, asAdmin, secrets, find: findRow, inTransaction, notify }),
    find: findRow,
    seal: secrets.seal,
    reveal: secrets.reveal,
    masked: secrets.masked,
    maskedAfterWrite: secrets.maskedAfterWrite,

    /**
     * Creates the row of a tenant.
     *
     * @param inSameTransaction adds writes to the transaction
     * @throws CONFIG_EXISTS, MASKED_VALUE; what `inSameTransaction` throws
     */
    async create (
      tenantId: string, userId: string | null, input: ConfigInput,
      inSameTransaction?: (tx: Queryable, row: TaggedRow) => Promise<void>
    ): Promise<TaggedRow> {
      const values = { ...emptyValues, ...secrets.seal(tenantId, input), tenant_id: tenantId, user_id: userId }
      const own = database.ofTenant(tenantId, userId)
      const write = inSameTransaction === undefined
        ? async () => await own.run(insert, values)
        : async () => await own.transaction(async (tx) => {
          const rows = await tx.run(insert, values)
          for (const row of rows) await inSameTransaction(tx, row)
          return rows
        })
      const [row] = await writeAndNotify(new Set([tenantId]), write, input)
      if (row === undefined) throw new ConfigExists()
      return row
    },

    /**
     * Ends the tenant's unfinished onboardings, then deletes its row, which one of them may just have stored.
     *
     * @param terms with `purge`, its former states are deleted too, also when the row is deleted already
     * @throws CONFIG_NOT_FOUND when the tenant has none of these; as `assertMatch`, with nothing ended
     */
    async remove (tenantId: string, terms: RemovalTerms = {}): Promise<void> {
      const work = async (tx: Queryable) => await removeTenant(tx, tenantId, terms)
      const scope: Scope = { role: 'tenant', tenantId, actor: terms.actor }
      if (await inTransaction(new Set([tenantId]), work, {}, scope) === 0) throw new ConfigNotFound()
    },

    /**
     * Ends the tenant's unfinished onboardings: none stores anything afterwards. Returns whether there were any.
     *
     * @throws as `assertMatch`, with nothing ended
     */
    endOnboardings: async (tenantId: string, ifMatch?: IfMatch): Promise<boolean> =>
      await database.ofTenant(tenantId).transaction(async (tx) =>
        await endTenantOnboardings(tx, tenantId, ifMatch)) > 0,

    /** Deletes the former states of a tenant. Returns whether there were any. */
    purge: async (tenantId: string): Promise<boolean> => await purgeVersions(database.ofTenant(tenantId), tenantId) > 0,

    /** Deletes the row of an offboarded tenant, under the conditions of `removeOffboardedQuery`. */
    removeOffboarded: async (
      row: TenantConfigRow, isUnsubscribed: boolean, { ifMatch, actor, purge = false }: RemovalTerms
    ): Promise<Removal['outcome']> => await inTransaction(new Set([row.tenant_id]), async (tx) => {
      const { outcome } = onlyRow(await tx.run(removeOffboardedQuery(row, isUnsubscribed, ifMatch)))
      if (purge && outcome === 'removed') await purgeVersions(tx, row.tenant_id)
      return outcome
    }, {}, { tenantId: row.tenant_id, actor }),

    /**
     * Stores an identity that Meta confirmed, with its sealed token, as verified. Stores nothing when it throws.
     *
     * @param inSameTransaction adds writes to the transaction; `isNew`: the tenant had no row before; `former`: the
     * identity that the row had
     * @throws PHONE_NUMBER_TAKEN; what `inSameTransaction` throws
     */
    async saveOnboardedIdentity (
      tenantId: string, userId: string | null, identity: OnboardedIdentity,
      inSameTransaction: (tx: Queryable, before: { isNew: boolean, former: LockedIdentity | null }) => Promise<void>
    ): Promise<void> {
      const changedTenants = new Set([tenantId])
      await inTransaction(changedTenants, async (tx) => {
        const former = await lockIdentity(tx, tenantId)
        const { created } = onlyRow(await upsertIdentity(tx, tenantId, userId, identity))
        const outcome = await saveVerifiedIdentity(tx, { ...identity, tenant_id: tenantId }, changedTenants)
        if (outcome !== 'saved') throw new PhoneNumberTaken()
        await inSameTransaction(tx, { isNew: created, former })
      }, identity, { tenantId, actor: userId })
    },

    /**
     * Marks the tenant as onboarded and activates it, in one transaction with the writes of `inSameTransaction`.
     *
     * @returns the row; null, without any write, when it no longer holds the identity
     */
    completeOnboarding: async (
      tenantId: string, userId: string | null, identity: OnboardedIdentity,
      inSameTransaction: (tx: Queryable) => Promise<void>
    ): Promise<TaggedRow | null> => await inTransaction(new Set([tenantId]), async (tx) => {
      const [row] = await completeIdentity(tx, tenantId, identity)
      if (row === undefined) return null
      await inSameTransaction(tx)
      return row
    }, identity, { tenantId, actor: userId }),

    /** Locks the tenant's row in the caller's transaction, and returns its identity; null without a row. */
    lockIdentity,

    /** Returns the id of the number that Meta confirmed for the tenant; null without one. */
    verifiedNumberOf: async (tenantId: string): Promise<string | null> =>
      await verifiedNumber(database.ofTenant(tenantId), tenantId),

    /**
     * Saves an identity that Meta confirmed to the tenant's own token, in a separate transaction. Notifies listeners of
     * a former owner of the number too.
     */
    async saveVerified (identity: VerifiedIdentity): Promise<VerifiedOutcome> {
      const changedTenants = new Set([identity.tenant_id])
      return await inTransaction(
        changedTenants, async (tx) => await saveVerifiedIdentity(tx, identity, changedTenants), identity
      )
    },

    /** As `saveVerified`, within `inTransaction`; adds a former owner of the number to its `changedTenants`. */
    saveVerifiedIn: saveVerifiedIdentity,

    /**
     * Ends all unfinished onboardings, and deletes all rows.
     *
     * @returns the id of the batch, for `versions.restoreBatch`
     * @throws CONFIRMATION_MISMATCH, without any write, unless there are exactly `expected` rows
     */
    removeAll: async (expected: number): Promise<string> => await inTransaction(null, async (tx) => {
      const { count, batch_id } = await removeAllTenants(tx)
      if (count !== expected) throw new ConfirmationMismatch()
      return batch_id
    }, {}, { role: 'admin' }),

    inTransaction,

    /** Adds a listener of writes. Returns a function that removes it. */
    onChange (listener: ChangeListener): () => void {
      listeners.add(listener)
      return () => { listeners.delete(listener) }
    }
  }

  /** The secrets of the row are sealed. Throws as `assertMatch`. */
  async function findRow (tenantId: string, ifMatch?: IfMatch): Promise<TaggedRow | null> {
    const [row] = await database.ofTenant(tenantId).run(find, { tenant_id: tenantId })
    assertMatch(row, ifMatch)
    return row ?? null
  }

  /**
   * Runs a transaction that may write the rows of some tenants, and notifies the listeners.
   *
   * @param changedTenants `work` may add tenants; null for all tenants
   * @param ids the new ids of the row, for lookups that did not find the tenant before
   * @param scope without it no version names who made the change
   */
  async function inTransaction<T> (
    changedTenants: Set<string> | null, work: (tx: Queryable) => Promise<T>, ids?: Ids, scope?: Scope
  ): Promise<T> {
    const { transaction } = scope === undefined ? database : database.as(scope)
    return await writeAndNotify(changedTenants, async () => await transaction(work), ids)
  }

  /** Writes and notifies the listeners, also after a failure: PostgreSQL may have committed nevertheless. */
  async function writeAndNotify<T> (
    changedTenants: Set<string> | null, write: () => Promise<T>, ids: Ids = {}
  ): Promise<T> {
    return await database.retryDeadlock(write).finally(() => {
      for (const tenantId of changedTenants ?? [null]) notify(tenantId, ids)
    })
  }

  function notify (tenantId: string | null, { phone_number_id = null, waba_id = null }: Ids): void {
    for (const listener of listeners) listener(tenantId === null ? null : [tenantId, phone_number_id, waba_id])
  }
}

/** Decorates `fastify.tenantConfigs`. The triggers of all instances follow the policy of the last one that started. */
async function tenantConfigs (fastify: FastifyInstance): Promise<void> {
  const { database, env } = fastify
  await database.run(policyQuery({ retention_days: env.VERSION_RETENTION_DAYS, max_per_tenant: env.VERSION_MAX }))
  fastify.decorate('tenantConfigs', createTenantConfigs(fastify))
}

export default fp(tenantConfigs, { name: 'tenant-configs', dependencies: ['env', 'database', 'vault'] })
