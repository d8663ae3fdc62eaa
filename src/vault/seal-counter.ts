import type { FastifyBaseLogger } from 'fastify'
import type { Database } from '../database/database.js'
import { onlyRow } from '../database/statement.js'
import { addSeals, keyUse } from './vault-keys.sql.js'
import type { Vault } from './vault.js'

const PERIOD_MS = 60_000
/** Seals of one key with random IVs. Source: NIST SP 800-38D, section 8.3 */
export const MAX_SEALS = 2 ** 32

interface SealCounterDependencies {
  database: Pick<Database, 'run'>
  vault: Pick<Vault, 'keyIds' | 'takeSeals' | 'useFormat'>
  log: Pick<FastifyBaseLogger, 'warn'>
  periodMs?: number
}

/**
 * Adds the seals of this process to those of the first key, every minute and at the stop. Learns the format that a
 * rotation set, and warns once when the key has half of the seals that it may have.
 */
export function createSealCounter ({ database, vault, log, periodMs = PERIOD_MS }: SealCounterDependencies) {
  const keyId = String(vault.keyIds[0])
  let uncounted = 0
  let isWarned = false
  let counting = Promise.resolve()
  let timer: NodeJS.Timeout | undefined

  return {
    /** The first count is due after a period: there is nothing to count or to learn at the start. */
    start (): void {
      timer = setInterval(() => { counting = counting.then(count) }, periodMs).unref()
    },

    async stop (): Promise<void> {
      clearInterval(timer)
      await counting
      await count()
    }
  }

  async function count (): Promise<void> {
    uncounted += vault.takeSeals()
    try {
      // A process that seals nothing, such as a worker's loader, writes nothing.
      const { format, seals } =
        onlyRow(await database.run(uncounted === 0 ? keyUse(keyId) : addSeals(keyId, uncounted)))
      uncounted = 0
      vault.useFormat(format)
      if (seals < MAX_SEALS / 2 || isWarned) return
      isWarned = true
      log.warn({ key_id: keyId, seals },
        'the first key of ENCRYPTION_KEYS has sealed half as often as it may: put a new one first')
    } catch (err) {
      log.warn({ err }, 'the seals could not be counted; the next minute tries again')
    }
  }
}
