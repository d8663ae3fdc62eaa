import { withReader } from '../../database/connection.js'
import { pendingMigrations } from '../../database/migrations/migrations.js'
import { createOutbound } from '../../outbound/outbound.js'
import { createVault, type Vault } from '../../vault/vault.js'
import { unwrapKeyRing } from '../../vault/wrapping/wrapping.js'
import type { StopAtEnd } from '../command.js'
import { readCommandEnv } from '../command-settings.js'
import { joinDatabase } from '../start-database.js'

/**
 * Returns the vault of the settings, and the URL of their database without a pooler. An embedded one that the service
 * runs is used as it is.
 *
 * @throws as `readEnv` and `unwrapKeyRing`, and when the database lacks a migration: this version knows
 * places for secrets that it does not have
 */
export async function openKeyDatabase (stopAtEnd: StopAtEnd): Promise<{ vault: Vault, url: string }> {
  const env = await readCommandEnv()
  const { fetch, close } = await createOutbound({ proxy: env.HTTPS_PROXY, noProxy: env.NO_PROXY })
  const keyRing = await unwrapKeyRing(env, { fetch }).finally(close)
  const url = await joinDatabase(stopAtEnd, env)
  const pending = await withReader(url, pendingMigrations)
  if (pending.length === 0) return { vault: createVault({ keyRing }), url }
  throw new Error(`The database lacks the migrations ${pending.join(', ')}. Run npm run db:migrate first.`)
}
