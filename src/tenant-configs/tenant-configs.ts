import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { callbackScopeQuery, type CallbackScope } from '../onboarding/callback-scope.sql.js'
import type { RowChange } from '../config-loader/invalidation-listener.js'
import { removeOffboardedQuery, type Removal } from '../account-updates/account-updates.sql.js'
import type { Db } from '../onboarding/onboardings.sql.js'
import type { PooledDb } from '../database/prepared.js'
import { completeIdentity, upsertIdentity, type OnboardedIdentity } from './identity.sql.js'
import { endTenantOnboardings, removeAllTenants, removeTenant } from './removal.sql.js'
import { tenantConfigs as table, type TenantConfigRow, type TokenStatus } from '../database/schema.js'
import { statsQuery, tenantConfigStatements } from './tenant-configs.sql.js'
import { saveVerifiedIdentity, type VerifiedIdentity, type VerifiedOutcome } from './verified-identities.sql.js'
import { ConfigExists, ConfigNotFound, ConfirmationMismatch, DatabaseUnavailable, PhoneNumberTaken } from '../errors.js'
import { mapDatabaseErrors } from '../database/database.js'
import { createRowSecrets, type ConfigInput } from './row-secrets.js'
import type { Vault } from '../vault/vault.js'

export type { OnboardedIdentity as ProvenIdentity } from './identity.sql.js'
export type { TenantConfigRow } from '../database/schema.js'

export interface ListQuery {
  limit: number
  cursor?: string | undefined
  is_active?: boolean | undefined
  onboarding_completed?: boolean | undefined
  tenant_id?: string | undefined
  token_status?: TokenStatus | undefined
}

/** The numbers of the statistics, before they are arranged as JSON. */
export type StatsRow = Record<'total' | 'active' | 'inactive' | 'onboarded' | 'pending' | 'expired' | 'expiring_7d' | 'expiring_30d' | 'no_expiry' | 'missing', number>
  & { token_status: Record<TokenStatus, number> }

/** Told of a write to one tenant's row, or to any (null), with the ids it now has where the write said them. */
type ChangeListener = (change: RowChange | null) => void

/** What a row is found by besides its tenant. */
type Ids = Partial<Pick<TenantConfigRow, 'phone_number_id' | 'waba_id'>>

type Transaction = Parameters<Parameters<NodePgDatabase['transaction']>[0]>[0]

export type TenantConfigs = ReturnType<typeof createTenantConfigs>

declare module 'fastify' {
  interface FastifyInstance { tenantConfigs: TenantConfigs }
}

// No tenant id has more than 100 characters, so none that begins with a prefix sorts after prefix + this.
const AFTER_ANY_ID = '\u{10FFFF}'.repeat(101)

/**
 * The one way to the rows of `tenant_configs`: it seals what is written and tells listeners of every write.
 * All methods throw `DATABASE_UNAVAILABLE` when the database does not answer.
 */
export function createTenantConfigs ({ orm, vault }: { orm: PooledDb, vault: Vault }) {
  const statements = tenantConfigStatements(orm)
  const secrets = createRowSecrets({ vault })
  const listeners = new Set<ChangeListener>()

  /**
   * Writes and tells the listeners, also when it failed: a lost answer does not mean that nothing was written.
   * A write that finds out on its way whose rows it changes takes a set, and adds to it. `ids` are those that the row now has.
   */
  async function writeAndNotify<T> (changed: string | null | Set<string>, write: () => Promise<T>, ids: Ids = {}): Promise<T> {
    return await retryDeadlock(async () => await mapDatabaseErrors(write())).finally(() => {
      for (const tenantId of changed instanceof Set ? changed : [changed]) notify(tenantId, ids)
    })
  }

  function notify (tenantId: string | null, { phone_number_id = null, waba_id = null }: Ids): void {
    for (const listener of listeners) listener(tenantId === null ? null : [tenantId, phone_number_id, waba_id])
  }

  /** Returns the row with its secrets sealed, or null. */
  async function find (tenantId: string): Promise<TenantConfigRow | null> {
    const [row] = await mapDatabaseErrors(statements.find.execute({ tenant_id: tenantId }))
    return row ?? null
  }

  return {
    find,

    /** Makes the tenant's row and returns it. Throws `CONFIG_EXISTS`, `MASKED_VALUE`. */
    async create (tenantId: string, userId: string | null, input: ConfigInput): Promise<TenantConfigRow> {
      const values = { ...secrets.seal(tenantId, input), tenant_id: tenantId, user_id: userId }
      const [row] = await writeAndNotify(tenantId, () => statements.insert.execute(values), input)
      if (row === undefined) throw new ConfigExists()
      return row
    },

    /**
     * Writes what the input has and returns the row. Other ids end the verified identity; another token keeps it, and is unverified.
     * Throws `CONFIG_NOT_FOUND`, `MASKED_VALUE`.
     */
    async update (tenantId: string, input: ConfigInput): Promise<TenantConfigRow> {
      const { access_token: token } = input
      const values = secrets.seal(tenantId, input)
      // Ciphertexts differ each time, so only opening the stored one tells whether it is the same token again.
      const held = token === undefined ? null : (await find(tenantId))?.access_token ?? null
      const same = held === null ? token === null : secrets.tryOpen(held, tenantId, 'access_token') === token
      const [row] = await writeAndNotify(tenantId, () => statements.update.execute({ ...values, tenant_id: tenantId, fields: Object.keys(input), same_token: same, held_token: held }), input)
      if (row === undefined) throw new ConfigNotFound()
      return row
    },

    /** Turns the tenant on or off and returns the row. Throws `CONFIG_NOT_FOUND`. */
    async setActive (tenantId: string, active: boolean): Promise<TenantConfigRow> {
      const [row] = await writeAndNotify(tenantId, () => statements.setActive.execute({ tenant_id: tenantId, is_active: active }))
      if (row === undefined) throw new ConfigNotFound()
      // Of an active one that nobody had.
      notify(tenantId, row)
      return row
    },

    /**
     * Ends the tenant's onboardings that may go on, then deletes its row, which one of them may have stored meanwhile.
     * Throws `CONFIG_NOT_FOUND` when there is neither.
     */
    async remove (tenantId: string): Promise<void> {
      const removed = await writeAndNotify(tenantId, async () => await orm.transaction(async (tx) => await removeTenant(tx, tenantId)))
      if (removed === 0) throw new ConfigNotFound()
    },

    /** Ends the tenant's onboardings that may go on: none stores anything after this. Returns whether there were any. */
    async endOnboardings (tenantId: string): Promise<boolean> {
      return await mapDatabaseErrors(orm.transaction(async (tx) => await endTenantOnboardings(tx, tenantId))) > 0
    },

    /** Deletes the row of a tenant who leaves, if our app is off its account (`isOff`) as it should be, or is on it as it should be; returns what `removeLeavingQuery` says. */
    async removeOffboarded (row: TenantConfigRow, isOff: boolean): Promise<Removal['outcome']> {
      return onlyRow((await writeAndNotify(row.tenant_id, () => orm.execute<Removal>(removeOffboardedQuery(row, isOff)))).rows).outcome
    },

    /**
     * Stores an identity that Meta confirmed, its token sealed, as verified, in one transaction with what `alongside` writes.
     * `alongside` is told whether the tenant had no row before.
     * Throws `PHONE_NUMBER_TAKEN`, and what `alongside` throws: then nothing is stored.
     */
    async saveOnboardedIdentity (tenantId: string, userId: string | null, identity: OnboardedIdentity, inSameTransaction: (tx: Db, isNew: boolean) => Promise<void>): Promise<void> {
      const changed = new Set([tenantId])
      await writeAndNotify(changed, async () => await orm.transaction(async (tx) => {
        const { created } = onlyRow(await upsertIdentity(tx, tenantId, userId, identity))
        const outcome = await saveVerifiedIdentity(tx, { ...identity, tenant_id: tenantId }, changed)
        if (outcome !== 'saved') throw new PhoneNumberTaken()
        await inSameTransaction(tx, created)
      }), identity)
    },

    /**
     * Marks the tenant as onboarded and activates it, in one transaction with what `alongside` writes, and returns the row; null,
     * having written nothing, when the row no longer holds the identity.
     */
    async completeOnboarding (tenantId: string, identity: OnboardedIdentity, inSameTransaction: (tx: Db) => Promise<void>): Promise<TenantConfigRow | null> {
      return await writeAndNotify(tenantId, async () => await orm.transaction(async (tx) => {
        const [row] = await completeIdentity(tx, tenantId, identity)
        if (row === undefined) return null
        await inSameTransaction(tx)
        return row
      }), identity)
    },

    /**
     * Saves an identity that Meta confirmed to the tenant's own token, which is sealed, in a transaction of its own.
     * Listeners are told of a former owner of the number too.
     */
    async saveVerified (identity: VerifiedIdentity): Promise<VerifiedOutcome> {
      const changed = new Set([identity.tenant_id])
      const save = async () => await orm.transaction(async (tx) => await saveVerifiedIdentity(tx, identity, changed))
      return await writeAndNotify(changed, save, identity)
    },

    /** Where the callback of a tenant with this account and number may be set. */
    callbackScope: async (of: Parameters<typeof callbackScopeQuery>[0]): Promise<CallbackScope> =>
      onlyRow((await mapDatabaseErrors(orm.execute<CallbackScope>(callbackScopeQuery(of)))).rows),

    /** A page of rows by tenant id, their secrets `****` or null, and where the next page starts (null on the last one). */
    async list ({ limit, cursor = '', is_active, onboarding_completed, tenant_id: prefix = '', token_status }: ListQuery): Promise<{ configs: TenantConfigRow[], next: string | null }> {
      const flags = { is_active: allowedValues(is_active), onboarding_completed: allowedValues(onboarding_completed) }
      const query = { after: cursor, from: prefix, to: prefix + AFTER_ANY_ID, ...flags, limit: limit + 1 }
      const rows = await mapDatabaseErrors(token_status === undefined ? statements.list.execute(query) : statements.listByTokenStatus.execute({ ...query, token_status }))
      // The last of the page, if there is one more after it.
      const [last] = rows.slice(limit - 1, -1)
      return { configs: rows.slice(0, limit), next: last?.tenant_id ?? null }
    },

    /** The counts of the statistics, all of one moment. */
    stats: async (): Promise<StatsRow> => onlyRow((await mapDatabaseErrors(orm.execute<StatsRow>(statsQuery))).rows),

    /** How many rows there are. */
    count: async (): Promise<number> => await mapDatabaseErrors(orm.$count(table)),

    /** Ends all onboardings that may go on, and deletes all rows. Throws `CONFIRMATION_MISMATCH`, having done neither, unless there are exactly `expected` rows. */
    async removeAll (expected: number): Promise<void> {
      await writeAndNotify(null, async () => {
        await orm.transaction(async (tx) => {
          if (await removeAllTenants(tx) !== expected) throw new ConfirmationMismatch()
        })
      })
    },

    reveal: secrets.reveal,
    masked: secrets.masked,
    maskedAfterWrite: secrets.maskedAfterWrite,

    /**
     * Runs a transaction that may write the rows of these tenants; returns what `work` returns, which may add to a set of them.
     * Takes the ids by which look-ups find a tenant after it, and not before.
     */
    inTransaction: async <T>(tenants: string | Set<string>, work: (tx: Transaction) => Promise<T>, ids?: Ids): Promise<T> =>
      await writeAndNotify(tenants, async () => await orm.transaction(work), ids),

    /** Calls `listener` after each write. Returns how to stop that. */
    onChange (listener: ChangeListener): () => void {
      listeners.add(listener)
      return () => { listeners.delete(listener) }
    }
  }
}

/** The values of a flag that a filter lets through. */
const allowedValues = (flag?: boolean) => flag === undefined ? [true, false] : [flag]

/** The row of a statement that answers one, unless somebody's trigger keeps it back. */
function onlyRow<T> ([row]: T[]): T {
  if (row === undefined) throw new Error('a statement returned no row')
  return row
}

/** Runs a statement a second time when PostgreSQL undid it to end a deadlock. */
async function retryDeadlock<T> (statement: () => Promise<T>): Promise<T> {
  try {
    return await statement()
  } catch (err) {
    if (err instanceof DatabaseUnavailable && isDeadlock(err.cause)) return await statement()
    throw err
  }
}

const isDeadlock = (cause: unknown) => cause instanceof pg.DatabaseError && cause.code === '40P01'

/** Decorates `fastify.tenantConfigs`. */
async function tenantConfigs (fastify: FastifyInstance): Promise<void> {
  fastify.decorate('tenantConfigs', createTenantConfigs({ orm: fastify.database.orm, vault: fastify.vault }))
}

export default fp(tenantConfigs, { name: 'tenant-configs', dependencies: ['database', 'vault'] })
