import type { NotServedReason } from './resolve.js'
import { ConfigSnapshot, type Resolved } from './snapshot.js'

/** What serves a tenant that has an active row. */
export interface ActiveConfig {
  readonly resolved: Resolved
  readonly snapshot: ConfigSnapshot
  /** The same as a promise, made once. */
  readonly answer: Promise<ConfigSnapshot>
}

/** What there is of a tenant. */
export type CachedConfig = ActiveConfig | NotServedReason

/** What is kept of a tenant for what was decided of its row. */
export function toCachedConfig (resolved: Resolved | NotServedReason): CachedConfig {
  if (typeof resolved === 'string') return resolved
  const snapshot = new ConfigSnapshot(resolved, false)
  return { resolved, snapshot, answer: Object.freeze(Promise.resolve(snapshot)) }
}

/** Whether an active row serves. */
export const isActive = (entry: CachedConfig): entry is ActiveConfig => typeof entry === 'object'

/** The snapshot, marked if it could not be confirmed. */
export const snapshotOf = ({ resolved, snapshot }: ActiveConfig, isStale: boolean) => isStale ? new ConfigSnapshot(resolved, true) : snapshot
