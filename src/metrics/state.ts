import type { FastifyBaseLogger } from 'fastify'
import type { Database } from '../database/database.js'
import { pendingMigrations } from '../database/migrations/migrations.js'
import { onlyRow } from '../database/statement.js'
import type { TenantConfigs } from '../tenant-configs/tenant-configs.js'
import { sealsByKey } from '../vault/key-inspection.js'
import type { Vault } from '../vault/vault.js'
import type { Collected } from './collected.js'
import { createRefreshed } from './refreshed.js'
import { backlogQuery } from './state.sql.js'

const SECOND_MS = 1000
const MINUTE_MS = 60 * SECOND_MS

/** The reads: how often, and the time for their statements. The pool bounds that of the backlog. */
const BACKLOG_PERIOD_MS = 15 * SECOND_MS
const COUNTS = { periodMs: MINUTE_MS, timeoutMs: 20 * SECOND_MS }
/** Well below the 10 seconds after which Prometheus gives up a scrape. */
const WAIT_MS = 4 * SECOND_MS

interface StateDependencies {
  database: Pick<Database, 'run' | 'read'>
  tenantConfigs: Pick<TenantConfigs, 'stats'>
  vault: Pick<Vault, 'keyIds'>
  log: Pick<FastifyBaseLogger, 'warn'>
}

/**
 * Adds the metrics that are read from the database. While it does not answer, they are left out, and
 * `wtc_database_up` is 0. Each process reads for itself, and every process has the same values.
 */
export function addState ({ gauge, gaugeBy }: Collected, { database, tenantConfigs, vault, log }: StateDependencies) {
  const backlog = createRefreshed({
    periodMs: BACKLOG_PERIOD_MS,
    waitMs: WAIT_MS,
    read: async () => onlyRow(await database.run(backlogQuery)),
    report
  })
  const counts = whileUp(createRefreshed({
    periodMs: COUNTS.periodMs,
    waitMs: WAIT_MS,
    read: async () => await database.read(async (reader) => ({
      ...await tenantConfigs.stats(reader),
      seals: await sealsByKey(reader),
      pending_migrations: (await pendingMigrations(reader)).length
    }), COUNTS.timeoutMs),
    report
  }))

  gauge('wtc_database_up', 'Whether the database answers.', async () => Number(await backlog() !== undefined))
  gauge('wtc_watch_due_tokens', 'Tokens whose check is due, at most 10000.', async () => (await backlog())?.due_tokens)
  gauge('wtc_watch_lag_seconds', 'How late the most overdue check is.', async () => (await backlog())?.watch_lag)
  gauge('wtc_outbox_events', 'Events to deliver, at most 10000.', async () => (await backlog())?.waiting_events)
  gauge('wtc_outbox_age_seconds', 'Age of the oldest event to deliver.', async () => (await backlog())?.outbox_age)
  gauge('wtc_migrations_pending', 'Migrations that are not applied.', async () => (await counts())?.pending_migrations)
  gaugeBy('wtc_tenants', 'Configurations by state.', 'state', async () => {
    const found = await counts()
    return found && { active: found.active, inactive: found.inactive }
  })
  gaugeBy('wtc_tokens', 'Access tokens by status.', 'status', async () => (await counts())?.token_status)
  gaugeBy('wtc_numbers', 'Phone numbers by status.', 'status', async () => (await counts())?.number_status)
  gaugeBy('wtc_vault_key_in_use', 'Whether a key of ENCRYPTION_KEYS sealed a stored secret.', 'key_id', async () => {
    const found = await counts()
    return found && Object.fromEntries(vault.keyIds.map((id) => [id, Number(Number(found.keys[id]) > 0)]))
  })

  gaugeBy('wtc_vault_values', 'Stored secrets by the key that sealed them.', 'key_id', async () =>
    (await counts())?.keys)
  gaugeBy('wtc_vault_seals', 'How many secrets a key has sealed, of at most 2^32.', 'key_id', async () =>
    (await counts())?.seals)

  function whileUp<T> (latest: () => Promise<T | undefined>): () => Promise<T | undefined> {
    return async () => await backlog() === undefined ? undefined : await latest()
  }

  function report (err: unknown): void {
    log.warn({ err }, 'the state of the database could not be read for the metrics')
  }
}
