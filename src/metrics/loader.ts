import type pg from 'pg'
import type { ConfigLoader } from '../config-loader/config-loader.js'
import type { Collected } from './collected.js'

/** Adds the metrics of the loader and its invalidation listener. */
export function addLoader (
  { counter, gauge, gaugeBy }: Collected, { stats, msSinceConfirmed }: Pick<ConfigLoader, 'stats' | 'msSinceConfirmed'>
): void {
  counter('wtc_loader_hits_total', 'Cache lookups that found a valid entry.', () => stats().hits)
  counter('wtc_loader_misses_total', 'Cache lookups that found none.', () => stats().misses)
  counter('wtc_loader_loads_total', 'Reads of the database for the cache.', () => stats().loads)
  counter(
    'wtc_loader_invalidations_total', 'Changed rows, and drops of all entries.', () => stats().invalidations
  )
  counter('wtc_loader_stale_serves_total', 'Unconfirmed entries that were served.', () => stats().stale_serves)
  gaugeBy('wtc_loader_entries', 'Cached entries.', 'kind', () => stats().entries)
  gauge('wtc_listener_up', 'Whether the invalidation listener is up.', () => Number(stats().channel === 'up'))
  gauge(
    'wtc_listener_confirmed_age_seconds',
    'Seconds since the listener last confirmed that no change was missed; +Inf before the first time.',
    () => msSinceConfirmed() / 1000
  )
}

/** Adds the metrics of the connection pool. */
export function addPool ({ gauge }: Collected, pool: pg.Pool): void {
  gauge('wtc_pool_connections', 'Open connections of the pool.', () => pool.totalCount)
  gauge('wtc_pool_idle_connections', 'Connections of the pool that nobody uses.', () => pool.idleCount)
  gauge('wtc_pool_waiting_requests', 'Requests that wait for a connection.', () => pool.waitingCount)
  gauge('wtc_pool_max_connections', 'DATABASE_POOL_MAX.', () => pool.options.max)
}
