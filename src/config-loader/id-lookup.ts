import { SecretUnreadable } from '../errors.js'
import { isMetaId } from '../tenant-configs/tenant-id.js'
import { assertWithinDeadline, withAnswerDeadline } from '../waiting/deadline.js'
import type { ConfigCache } from './cache.js'
import { isActive, type CachedConfig } from './resolve.js'
import { ConfigSnapshot } from './snapshot.js'

interface IdLookupDependencies {
  /** The tenants of each id; their configurations are in `tenants`. */
  tenantIdsById: ConfigCache<string[]>
  tenants: ConfigCache<CachedConfig>
  /** Reads the configurations of an id by one statement; each function throws when its secrets do not open. */
  configsById: (key: string) => Promise<Array<() => CachedConfig>>
  idOf: (snapshot: ConfigSnapshot) => string | null
  detector: { readonly isDown: boolean }
}

/** Finds active tenants by an id of Meta's in their verified identity. */
export function createIdLookup ({ tenantIdsById, tenants, configsById, idOf, detector }: IdLookupDependencies) {
  /** Returns the cached configurations that have the id, and the tenants whose configuration lacks it. */
  async function matches (key: string, requestedAt: number) {
    const { value: tenantIds, isStale } = await tenantIdsById.get(key, requestedAt)
    const fits: ConfigSnapshot[] = []
    const misfits: string[] = []
    const loading = tenantIds.map(async (tenantId) => ({ tenantId, cached: await tenants.get(tenantId, requestedAt) }))
    for (const { tenantId, cached } of await withoutUnreadable(loading)) {
      const { value } = cached
      if (!isActive(value) || !value.isVerified() || idOf(value) !== key) misfits.push(tenantId)
      else fits.push(cached.isStale || isStale ? ConfigSnapshot.stale(value) : value)
    }
    return { fits, misfits }
  }

  async function readTogether (key: string): Promise<ConfigSnapshot[]> {
    const configs = await withoutUnreadable((await configsById(key)).map(async (open) => open()))
    return configs.filter(isActive)
  }

  return {
    tenantIdsById,

    /**
     * Returns the snapshots of all tenants that have the id.
     *
     * @throws `DATABASE_UNAVAILABLE`, `SECRET_UNREADABLE` when none opens, and a TypeError for a key that is no string
     */
    async find (key: string): Promise<readonly ConfigSnapshot[]> {
      if (typeof key !== 'string') throw new TypeError('an id of a phone number or an account is a string')
      if (!isMetaId(key)) return []
      const requestedAt = performance.now()
      // The id may have moved between the two loads. Each is loaded again, at last both by one statement.
      for (const invalidate of [() => { tenantIdsById.invalidate(key) }, tenants.invalidate]) {
        const { fits, misfits } = await matches(key, requestedAt)
        if (misfits.length === 0) return fits
        assertWithinDeadline(requestedAt, detector)
        misfits.forEach((tenantId) => { invalidate(tenantId) })
      }
      return await withAnswerDeadline(readTogether(key), requestedAt)
    }
  }
}

/** Waits for all, without those whose secrets do not open. Throws `SECRET_UNREADABLE` only when none is left. */
async function withoutUnreadable<T> (all: Array<Promise<T>>): Promise<T[]> {
  const outcomes = await Promise.allSettled(all)
  const found = outcomes.flatMap((outcome) => outcome.status === 'fulfilled' ? [outcome.value] : [])
  for (const outcome of outcomes) {
    if (outcome.status === 'fulfilled') continue
    if (found.length === 0 || !(outcome.reason instanceof SecretUnreadable)) throw outcome.reason
  }
  return found
}
