import type { ConfigCache } from './cache.js'
import { isServing, snapshotOf, type Entry } from './entry.js'
import type { ConfigSnapshot } from './snapshot.js'
import { SecretUnreadable } from '../errors.js'
import { mayAsk, withinDeadline } from '../waiting/deadline.js'
import { isMetaId } from '../tenant-configs/tenant-id.js'

interface LookUpDependencies {
  /** The tenants that have an id; their rows are those of `tenants`. */
  holders: ConfigCache<string[]>
  tenants: ConfigCache<Entry>
  /** Reads what all of them have at one moment; each entry throws when its secrets do not open. */
  entriesOn: (key: string) => Promise<Array<() => Entry>>
  idOf: (snapshot: ConfigSnapshot) => string | null
  outage: { readonly isKnown: boolean }
}

/** Finds the active tenants whose verified identity has an id of Meta's, and no others. */
export function createLookUp ({ holders, tenants, entriesOn, idOf, outage }: LookUpDependencies) {
  /** Those whose configuration fits the id, and those who should have it and do not. */
  async function held (key: string, since: number) {
    const { value: tenantIds, isStale } = await holders.get(key, since)
    const fits: ConfigSnapshot[] = []
    const misfits: string[] = []
    for (const { tenantId, answer } of await readable(tenantIds.map(async (tenantId) => ({ tenantId, answer: await tenants.get(tenantId, since) })))) {
      const snapshot = isServing(answer.value) ? snapshotOf(answer.value, answer.isStale || isStale) : undefined
      if (snapshot?.isVerified() === true && idOf(snapshot) === key) fits.push(snapshot)
      else misfits.push(tenantId)
    }
    return { fits, misfits }
  }

  async function atOneMoment (key: string): Promise<ConfigSnapshot[]> {
    const entries = await readable((await entriesOn(key)).map(async (open) => open()))
    return entries.filter(isServing).map(({ snapshot }) => snapshot)
  }

  return {
    holders,

    /** The snapshots of all who have the id. Throws `DATABASE_UNAVAILABLE`, `SECRET_UNREADABLE` when none opens, and a TypeError for what is no string. */
    async find (key: string): Promise<readonly ConfigSnapshot[]> {
      if (typeof key !== 'string') throw new TypeError('an id of a phone number or an account is a string')
      if (!isMetaId(key)) return []
      const since = performance.now()
      // Something may have moved between the moments at which the two were read: either is read again, and then both at once.
      for (const strike of [() => { holders.strike(key) }, tenants.strike]) {
        const { fits, misfits } = await held(key, since)
        if (misfits.length === 0) return fits
        mayAsk(since, outage)
        misfits.forEach((tenantId) => { strike(tenantId) })
      }
      return await withinDeadline(atOneMoment(key), since)
    }
  }
}

/** What can be had of them: a row whose secrets do not open fails alone. Throws that only when there is no other. */
async function readable<T> (all: Array<Promise<T>>): Promise<T[]> {
  const outcomes = await Promise.allSettled(all)
  const found = outcomes.flatMap((outcome) => outcome.status === 'fulfilled' ? [outcome.value] : [])
  for (const outcome of outcomes) {
    if (outcome.status === 'rejected' && (found.length === 0 || !(outcome.reason instanceof SecretUnreadable))) throw outcome.reason
  }
  return found
}
