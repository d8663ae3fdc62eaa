import type { Database } from '../../database/database.js'
import type { Scope } from '../../database/pool/scope.js'
import type { TenantConfigRow } from '../../database/schema/tenant-configs.js'
import type { Queryable } from '../../database/statement.js'
import { InvalidCursor, VersionNotFound } from '../../errors.js'
import { secretColumns, writableNames, type WritableColumn } from '../../schemas/columns.js'
import type { SkipCode } from '../../schemas/statuses.js'
import { assertMatch, type TaggedRow, type WriteTerms } from '../if-match.js'
import { cursorAfter, tenantIdOf } from '../listing.js'
import type { RowSecrets } from '../row-secrets.js'
import { findLocked } from '../tenant-configs.sql.js'
import {
  batchQuery, lastDeletedQuery, pageQuery, recreateQuery, restoreQuery, verifiedQuery, versionQuery,
  type DeletedVersion, type Version
} from './versions.sql.js'

/** A version in a list. */
export type ListedVersion = Pick<Version, 'version' | 'changed_at' | 'actor' | 'changed' | 'verified'>

/** `next`: the cursor of the tenants that are left; null when there are none. */
export interface Restoration {
  restored: number
  skipped: Array<{ tenant_id: string, code: SkipCode }>
  next: string | null
}

/** The tenants that one transaction restores, and one request. */
const PAGE = 500
const MAX_PAGES = 20
/** Larger than any version number. */
const AFTER_ANY = 2 ** 31
const IDENTITY: WritableColumn[] = ['waba_id', 'phone_number_id', 'access_token']

interface VersionsDependencies {
  database: Pick<Database, 'ofTenant'>
  /** The database with the rows of all tenants. */
  asAdmin: Queryable
  secrets: Pick<RowSecrets, 'tryOpen' | 'reveal'>
  find: (tenantId: string) => Promise<TenantConfigRow | null>
  inTransaction: <T>(
    changedTenants: Set<string>, work: (tx: Queryable) => Promise<T>, ids?: object, scope?: Scope
  ) => Promise<T>
  notify: (tenantId: string, row: TenantConfigRow) => void
}

/**
 * Creates the access to former states. A `key` is the number of a version; or `previous`, the newest verified one that
 * differs from the row. All methods throw `DATABASE_UNAVAILABLE`.
 */
export function createVersions ({ database, asAdmin, secrets, find, inTransaction, notify }: VersionsDependencies) {
  return {
    /**
     * Returns a page of a tenant's versions, the newest first.
     *
     * @param cursor `next` of the previous page
     * @returns `next`: the cursor of the next page; null on the last one
     * @throws INVALID_CURSOR
     */
    async list (
      tenantId: string, { limit, cursor }: { limit: number, cursor?: string | undefined }
    ): Promise<{ versions: ListedVersion[], next: string | null }> {
      const before = cursor === undefined ? undefined : numberOf(cursor)
      const rows = await database.ofTenant(tenantId).run(pageQuery(tenantId, limit + 1, before))
      // The last version of the page, when another one follows.
      const [last] = rows.slice(limit - 1, -1)
      return { versions: rows.slice(0, limit), next: last === undefined ? null : cursorBefore(last.version) }
    },

    /** @throws VERSION_NOT_FOUND */
    find: async (tenantId: string, key: string): Promise<Version> =>
      await findIn(database.ofTenant(tenantId), tenantId, key, await find(tenantId)),

    /**
     * Writes the writable columns of a version to the tenant's row; recreates a deleted row. A secret that has not
     * changed keeps its ciphertext, and so the state of its token. Another identity is unverified.
     *
     * @throws with nothing written: VERSION_NOT_FOUND, SECRET_UNREADABLE; as `assertMatch`
     */
    async restore (tenantId: string, key: string, { ifMatch, actor }: WriteTerms): Promise<TaggedRow> {
      const restored = await inTransaction(new Set([tenantId]), async (tx) => {
        const [row] = await tx.run(findLocked, { tenant_id: tenantId })
        assertMatch(row, ifMatch)
        const present = row ?? null
        const version = await findIn(tx, tenantId, key, present)
        // Throws unless all secrets open.
        secrets.reveal(version)
        const kept = present === null ? new Set<WritableColumn>() : sameColumns(version, present)
        const isSameIdentity = IDENTITY.every((name) => kept.has(name))
        const [written] = await tx.run(restoreQuery(version, kept, isSameIdentity))
        if (written === undefined) throw new VersionNotFound()
        return written
      }, {}, { role: 'tenant', tenantId, actor })
      // Lookups by number or account may have cached 'nobody'; invalidate them too.
      notify(tenantId, restored)
      return restored
    },

    /**
     * Restores the last deleted state of a tenant, unless it has a row.
     *
     * @throws VERSION_NOT_FOUND when none is kept
     */
    async restoreTenant (tenantId: string): Promise<Restoration> {
      const versions = await asAdmin.run(lastDeletedQuery(tenantId))
      if (versions.length === 0) throw new VersionNotFound()
      return { ...await recreate(versions), next: null }
    },

    /**
     * Restores at most 10,000 tenants that a batch deleted, in several transactions.
     *
     * @param cursor `next` of the previous call
     * @throws VERSION_NOT_FOUND when no version of the batch is kept; INVALID_CURSOR
     */
    async restoreBatch (batchId: string, cursor?: string): Promise<Restoration> {
      const result: Restoration = { restored: 0, skipped: [], next: null }
      let after = cursor === undefined ? '' : tenantIdOf(cursor)
      for (let pages = 0; pages < MAX_PAGES; pages++) {
        const versions = await asAdmin.run(batchQuery(batchId, after, PAGE + 1))
        if (versions.length === 0 && after === '') throw new VersionNotFound()
        const { restored, skipped } = await recreate(versions.slice(0, PAGE))
        result.restored += restored
        result.skipped.push(...skipped)
        // The last version of the page, when another one follows.
        const [last] = versions.slice(PAGE - 1, -1)
        if (last === undefined) return result
        after = last.tenant_id
      }
      return { ...result, next: cursorAfter(after) }
    }
  }

  /** Throws VERSION_NOT_FOUND. */
  async function findIn (
    db: Pick<Queryable, 'run'>, tenantId: string, key: string, present: TenantConfigRow | null
  ): Promise<Version> {
    const version = key === 'previous'
      ? await findPrevious(db, tenantId, present)
      : (await db.run(versionQuery(tenantId, key)))[0]
    if (version === undefined) throw new VersionNotFound()
    return version
  }

  /** Finds the newest verified version whose writable columns are not those of the row. */
  async function findPrevious (
    db: Pick<Queryable, 'run'>, tenantId: string, present: TenantConfigRow | null
  ): Promise<Version | undefined> {
    let before = AFTER_ANY
    for (;;) {
      const [version] = await db.run(verifiedQuery(tenantId, before))
      if (version === undefined || present === null) return version
      if (sameColumns(version, present).size < writableNames.length) return version
      before = version.version
    }
  }

  /** Returns the columns with the same value, or the same secret. */
  function sameColumns (version: Version, present: TenantConfigRow): Set<WritableColumn> {
    return new Set(writableNames.filter((name) =>
      version[name] === present[name] || isSameSecret(version, present, name)))
  }

  /** Each ciphertext of a secret differs: the comparison needs the clear ones. */
  function isSameSecret (version: Version, { tenant_id: tenantId, ...present }: TenantConfigRow, name: WritableColumn) {
    const [former, now] = [version[name], present[name]]
    const column = secretColumns.find((secret) => secret === name)
    if (column === undefined || former === null || now === null) return false
    const clear = secrets.tryOpen(former, tenantId, column)
    return clear !== undefined && clear === secrets.tryOpen(now, tenantId, column)
  }

  async function recreate (versions: DeletedVersion[]): Promise<Omit<Restoration, 'next'>> {
    const obstacles = new Map(versions.map((version) => [version, obstacleTo(version)]))
    const restorable = versions.filter((version) => obstacles.get(version) === null)
    const changedTenants = new Set(restorable.map(({ tenant_id: id }) => id))
    const rows = await inTransaction(changedTenants, async (tx) =>
      await tx.run(recreateQuery(restorable)), {}, { role: 'admin' })
    for (const row of rows) notify(row.tenant_id, row)
    const restored = new Set(rows.map(({ tenant_id: id }) => id))
    const skipped = versions.filter(({ tenant_id: id }) => !restored.has(id)).map((version) => ({
      tenant_id: version.tenant_id,
      // A tenant without an obstacle got a row meanwhile.
      code: obstacles.get(version) ?? 'CONFIG_EXISTS' as const
    }))
    return { restored: restored.size, skipped }
  }

  function obstacleTo (version: DeletedVersion): SkipCode | null {
    if (version.exists) return 'CONFIG_EXISTS'
    if (version.is_superseded) return 'VERSION_SUPERSEDED'
    const opens = secretColumns.every((column) => {
      const sealed = version[column]
      return sealed === null || secrets.tryOpen(sealed, version.tenant_id, column) !== undefined
    })
    return opens ? null : 'SECRET_UNREADABLE'
  }
}

// A cursor is the last number of a page. The encoding marks it as opaque to clients.
const cursorBefore = (version: number) => Buffer.from(String(version)).toString('base64url')

function numberOf (cursor: string): number {
  const number = Number(Buffer.from(cursor, 'base64url').toString())
  if (!Number.isInteger(number) || number < 1 || number >= AFTER_ANY || cursorBefore(number) !== cursor) {
    throw new InvalidCursor()
  }
  return number
}
