import type { ConfigCache } from './cache.js'
import { isActive, snapshotOf, type CachedConfig } from './resolve.js'
import type { ConfigSnapshot } from './snapshot.js'
import { SecretUnreadable } from '../errors.js'
import { assertWithinDeadline, withAnswerDeadline } from '../waiting/deadline.js'
import { isMetaId } from '../tenant-configs/tenant-id.js'

interface IdLookupDependencies {
  /** The tenants that have an id; their rows are those of `tenants`. */
  tenantIdsById: ConfigCache<string[]>
  tenants: ConfigCache<CachedConfig>
  /** Reads what all of them have at one moment; each entry throws when its secrets do not open. */
  configsById: (key: string) => Promise<Array<() => CachedConfig>>
  idOf: (snapshot: ConfigSnapshot) => string | null
  detector: { readonly isDown: boolean }
}

/** Finds the active tenants whose verified identity has an id of Meta's, and no others. */
export function createIdLookup ({ tenantIdsById, tenants, configsById, idOf, detector }: IdLookupDependencies) {
  /** Those whose configuration fits the id, and those who should have it and do not. */
  async function matches (key: string, requestedAt: number) {
    const { value: tenantIds, isStale } = await tenantIdsById.get(key, requestedAt)
    const fits: ConfigSnapshot[] = []
    const misfits: string[] = []
    for (const { tenantId, answer } of await withoutUnreadable(tenantIds.map(async (tenantId) => ({ tenantId, answer: await tenants.get(tenantId, requestedAt) })))) {
      const snapshot = isActive(answer.value) ? snapshotOf(answer.value, answer.isStale || isStale) : undefined
      if (snapshot?.isVerified() === true && idOf(snapshot) === key) fits.push(snapshot)
      else misfits.push(tenantId)
    }
    return { fits, misfits }
  }

  async function readAtOnce (key: string): Promise<ConfigSnapshot[]> {
    const entries = await withoutUnreadable((await configsById(key)).map(async (open) => open()))
    return entries.filter(isActive).map(({ snapshot }) => snapshot)
  }

  return {
    tenantIdsById,

    /** The snapshots of all who have the id. Throws `DATABASE_UNAVAILABLE`, `SECRET_UNREADABLE` when none opens, and a TypeError for what is no string. */
    async find (key: string): Promise<readonly ConfigSnapshot[]> {
      if (typeof key !== 'string') throw new TypeError('an id of a phone number or an account is a string')
      if (!isMetaId(key)) return []
      const requestedAt = performance.now()
      // Something may have moved between the moments at which the two were read: either is read again, and then both at once.
      for (const strike of [() => { tenantIdsById.invalidate(key) }, tenants.invalidate]) {
        const { fits, misfits } = await matches(key, requestedAt)
        if (misfits.length === 0) return fits
        assertWithinDeadline(requestedAt, detector)
        misfits.forEach((tenantId) => { strike(tenantId) })
      }
      return await withAnswerDeadline(readAtOnce(key), requestedAt)
    }
  }
}

/** What can be had of them: a row whose secrets do not open fails alone. Throws that only when there is no other. */
async function withoutUnreadable<T> (all: Array<Promise<T>>): Promise<T[]> {
  const outcomes = await Promise.allSettled(all)
  const found = outcomes.flatMap((outcome) => outcome.status === 'fulfilled' ? [outcome.value] : [])
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected' && (found.length === 0 || !(outcome.reason instanceof SecretUnreadable))) throw outcome.reason
  }
  return found
}
