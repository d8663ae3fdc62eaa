import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Database } from '../database/database.js'
import type { TenantConfigRow } from '../database/schema.js'
import { onlyRow, type Queryable } from '../database/statement.js'
import { ConfigExists, ConfigNotFound, ConfirmationMismatch, PhoneNumberTaken } from '../errors.js'
import type { Vault } from '../vault/vault.js'
import { createListing } from './listing.js'
import {
  endTenantOnboardings, removeAllTenants, removeOffboardedQuery, removeTenant, type Removal
} from './removal.sql.js'
import { createRowSecrets, type ConfigInput } from './row-secrets.js'
import { emptyValues, find, insert, setActive, update } from './tenant-configs.sql.js'
import {
  completeIdentity, saveVerifiedIdentity, upsertIdentity, type OnboardedIdentity, type VerifiedIdentity, type VerifiedOutcome
} from './verified-identities.sql.js'

export type { TenantConfigRow } from '../database/schema.js'
export type { ConfigInput } from './row-secrets.js'
export type { OnboardedIdentity, VerifiedIdentity, VerifiedOutcome } from './verified-identities.sql.js'

/** The ids by which a row is, or was, found: tenant, phone number, account. */
export type RowChange = [tenantId: string, phoneNumberId: string | null, wabaId: string | null]

/** Called after a write to one tenant's row, with the ids it has then where the write knows them; null: any row may differ. */
type ChangeListener = (change: RowChange | null) => void

type Ids = Partial<Pick<TenantConfigRow, 'phone_number_id' | 'waba_id'>>

export type TenantConfigs = ReturnType<typeof createTenantConfigs>

declare module 'fastify' {
  interface FastifyInstance { tenantConfigs: TenantConfigs }
}

/**
 * The one way to the rows of `tenant_configs`: it seals what is written and notifies listeners of every write. All methods
 * throw `DATABASE_UNAVAILABLE` when the database does not answer.
 */
export function createTenantConfigs (
  { database, vault }: { database: Pick<Database, 'run' | 'transaction' | 'retryDeadlock'>, vault: Pick<Vault, 'seal' | 'open'> }
) {
  const secrets = createRowSecrets({ vault })
  const listeners = new Set<ChangeListener>()

  return {
    ...createListing({ database }),
    find: findRow,
    seal: secrets.seal,
    reveal: secrets.reveal,
    masked: secrets.masked,
    maskedAfterWrite: secrets.maskedAfterWrite,

    /** Creates the tenant's row and returns it. Throws `CONFIG_EXISTS`, `MASKED_VALUE`. */
    async create (tenantId: string, userId: string | null, input: ConfigInput): Promise<TenantConfigRow> {
      const values = { ...emptyValues, ...secrets.seal(tenantId, input), tenant_id: tenantId, user_id: userId }
      const [row] = await writeAndNotify(new Set([tenantId]), async () => await database.run(insert, values), input)
      if (row === undefined) throw new ConfigExists()
      return row
    },

    /**
     * Writes the fields of the input and returns the row. Other ids end the verified identity; another token keeps it, and is
     * unverified. Throws `CONFIG_NOT_FOUND`, `MASKED_VALUE`.
     */
    async update (tenantId: string, input: ConfigInput): Promise<TenantConfigRow> {
      const { access_token: token } = input
      const values = { ...emptyValues, ...secrets.seal(tenantId, input) }
      // Ciphertexts differ each time, so only opening the stored one tells whether it is the same token again.
      const stored = token === undefined ? null : (await findRow(tenantId))?.access_token ?? null
      const isSame = stored === null ? token === null : secrets.tryOpen(stored, tenantId, 'access_token') === token
      const change = { ...values, tenant_id: tenantId, fields: Object.keys(input), same_token: isSame, stored_token: stored }
      const [row] = await writeAndNotify(new Set([tenantId]), async () => await database.run(update, change), input)
      if (row === undefined) throw new ConfigNotFound()
      return row
    },

    /** Turns the tenant on or off and returns the row. Throws `CONFIG_NOT_FOUND`. */
    async setActive (tenantId: string, isActive: boolean): Promise<TenantConfigRow> {
      const values = { tenant_id: tenantId, is_active: isActive }
      const [row] = await writeAndNotify(new Set([tenantId]), async () => await database.run(setActive, values))
      if (row === undefined) throw new ConfigNotFound()
      // Lookups by number or account may have cached 'nobody'; invalidate them too.
      notify(tenantId, row)
      return row
    },

    /**
     * Ends the tenant's onboardings that may go on, then deletes its row, which one of them may have stored meanwhile. Throws
     * `CONFIG_NOT_FOUND` when there is neither.
     */
    async remove (tenantId: string): Promise<void> {
      if (await inTransaction(new Set([tenantId]), async (tx) => await removeTenant(tx, tenantId)) === 0) {
        throw new ConfigNotFound()
      }
    },

    /** Ends the tenant's onboardings that may go on: none stores anything after this. Returns whether there were any. */
    endOnboardings: async (tenantId: string): Promise<boolean> =>
      await database.transaction(async (tx) => await endTenantOnboardings(tx, tenantId)) > 0,

    /** Deletes the row of a tenant that leaves, under the conditions of `removeOffboardedQuery`, and returns its outcome. */
    async removeOffboarded (row: TenantConfigRow, isOff: boolean): Promise<Removal['outcome']> {
      const query = removeOffboardedQuery(row, isOff)
      return onlyRow(await writeAndNotify(new Set([row.tenant_id]), async () => await database.run(query))).outcome
    },

    /**
     * Stores an identity that Meta confirmed, its token sealed, as verified, in one transaction with what
     * `inSameTransaction` writes, which is called with whether the tenant had no row before. Throws `PHONE_NUMBER_TAKEN`, and
     * what `inSameTransaction` throws: then nothing is stored.
     */
    async saveOnboardedIdentity (
      tenantId: string, userId: string | null, identity: OnboardedIdentity,
      inSameTransaction: (tx: Queryable, isNew: boolean) => Promise<void>
    ): Promise<void> {
      const changedTenants = new Set([tenantId])
      await inTransaction(changedTenants, async (tx) => {
        const { created } = onlyRow(await upsertIdentity(tx, tenantId, userId, identity))
        const outcome = await saveVerifiedIdentity(tx, { ...identity, tenant_id: tenantId }, changedTenants)
        if (outcome !== 'saved') throw new PhoneNumberTaken()
        await inSameTransaction(tx, created)
      }, identity)
    },

    /**
     * Marks the tenant as onboarded and activates it, in one transaction with what `inSameTransaction` writes, and returns the
     * row; null, having written nothing, when the row no longer holds the identity.
     */
    completeOnboarding: async (
      tenantId: string, identity: OnboardedIdentity, inSameTransaction: (tx: Queryable) => Promise<void>
    ): Promise<TenantConfigRow | null> => await inTransaction(new Set([tenantId]), async (tx) => {
      const [row] = await completeIdentity(tx, tenantId, identity)
      if (row === undefined) return null
      await inSameTransaction(tx)
      return row
    }, identity),

    /**
     * Saves an identity that Meta confirmed to the tenant's own token, which is sealed, in a transaction of its own. Listeners
     * are notified of a former owner of the number too.
     */
    async saveVerified (identity: VerifiedIdentity): Promise<VerifiedOutcome> {
      const changedTenants = new Set([identity.tenant_id])
      return await inTransaction(
        changedTenants, async (tx) => await saveVerifiedIdentity(tx, identity, changedTenants), identity
      )
    },

    /** The same in the caller's transaction, one of `inTransaction`, whose `changedTenants` it adds a former owner to. */
    saveVerifiedIn: saveVerifiedIdentity,

    /**
     * Ends all onboardings that may go on, and deletes all rows. Throws `CONFIRMATION_MISMATCH`, having done neither, unless
     * there are exactly `expected` rows.
     */
    async removeAll (expected: number): Promise<void> {
      await inTransaction(null, async (tx) => {
        if (await removeAllTenants(tx) !== expected) throw new ConfirmationMismatch()
      })
    },

    inTransaction,

    /** Calls `listener` after each write. Returns how to stop that. */
    onChange (listener: ChangeListener): () => void {
      listeners.add(listener)
      return () => { listeners.delete(listener) }
    }
  }

  /** Returns the row with its secrets sealed, or null. */
  async function findRow (tenantId: string): Promise<TenantConfigRow | null> {
    const [row] = await database.run(find, { tenant_id: tenantId })
    return row ?? null
  }

  /**
   * Runs a transaction that may write the rows of some tenants, and notifies the listeners; returns what `work` returns.
   *
   * @param changedTenants the tenants; `work` may add to them; null for all
   * @param ids the ids of the row after it, by which lookups find the tenant and did not before
   */
  async function inTransaction<T> (
    changedTenants: Set<string> | null, work: (tx: Queryable) => Promise<T>, ids?: Ids
  ): Promise<T> {
    return await writeAndNotify(changedTenants, async () => await database.transaction(work), ids)
  }

  /** Writes and notifies the listeners, also when it failed: a lost answer does not mean that nothing was written. */
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

/** Decorates `fastify.tenantConfigs`. */
async function tenantConfigs (fastify: FastifyInstance): Promise<void> {
  fastify.decorate('tenantConfigs', createTenantConfigs(fastify))
}

export default fp(tenantConfigs, { name: 'tenant-configs', dependencies: ['database', 'vault'] })
