import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { Database } from '../database/database.js'
import type { Poller } from '../waiting/poller.js'
import { obtainAuditKey } from './audit-key.sql.js'
import { createReader } from './reader.js'
import { createRecorder, type NewEntry } from './recorder/recorder.js'
import { createAuditRetention } from './retention.js'
import { createAuditStream } from './stream/stream.js'
import { createStreamLines, createStreamPost } from './stream/send.js'

export type { NewEntry } from './recorder/recorder.js'
export type { ShownRecord } from './reader.js'

declare module 'fastify' {
  interface FastifyInstance { audit: Audit }
}

export type Audit = ReturnType<typeof createAudit>

/** The part of an entry that is the same for all that the service does by itself. */
export const bySystem = {
  actor: null, role: 'system', outcome: 'ok', code: null, address: null, request_id: null
} as const

interface AuditDependencies {
  database: Pick<Database, 'run' | 'transaction' | 'as' | 'ofTenant'>
  key: Buffer
  isStreamed: boolean
  concurrency: number
  log: Pick<FastifyBaseLogger, 'error'>
}

/** The origin of a request. */
export type Origin = Pick<NewEntry, 'address' | 'request_id'>

/** The record of who did what: it is written, and listed. */
export function createAudit (dependencies: AuditDependencies) {
  const recorder = createRecorder(dependencies)
  return {
    ...recorder,
    ...createReader(dependencies),

    /**
     * Records that a service key read the values of a tenant; resolves when that is stored.
     *
     * @param count how often, since the last record of this key and tenant
     * @param origin that of the request; null when the record is about counted requests
     * @throws AUDIT_UNAVAILABLE
     */
    recordKeyReads: async (keyId: string, tenantId: string, count: number, origin: Origin | null): Promise<void> => {
      const { address = null, request_id = null } = origin ?? {}
      const entry = { tenant_id: tenantId, actor: keyId, count, address, request_id, code: null, fields: [] }
      await recorder.record({ ...entry, role: 'service_key', action: 'config.resolve', outcome: 'ok' })
    }
  }
}

/**
 * Decorates `fastify.audit`. From `onReady` to the close it sends the records to AUDIT_STREAM, and deletes those above
 * AUDIT_RETENTION_DAYS.
 *
 * @throws when the key of the audit log does not open
 */
async function audit (fastify: FastifyInstance): Promise<void> {
  const { database, vault, env, closing, log, outbound } = fastify
  const { AUDIT_STREAM: target, AUDIT_STREAM_SECRET: secrets = '', AUDIT_RETENTION_DAYS: days } = env
  const key = await obtainAuditKey(database, vault)
  // Two connections stay for requests that need no record.
  const concurrency = Math.max(1, env.DATABASE_POOL_MAX - 2)
  const audit = createAudit({ database, key, isStreamed: target !== undefined, concurrency, log })
  fastify.decorate('audit', audit)

  const pollers: Poller[] = []
  if (target !== undefined) {
    const send = target === 'stdout'
      ? createStreamLines(process.stdout)
      : createStreamPost({ url: target, secrets, outbound, closing })
    pollers.push(createAuditStream({ database, send, closing, log }))
  }
  if (days > 0) pollers.push(createAuditRetention({ database, key, days, closing, log }))
  fastify.addHook('onReady', async () => { for (const { start } of pollers) start() })
  // Runs before the hook of the database, which was registered earlier.
  fastify.addHook('onClose', async () => {
    await audit.settled()
    for (const { stop } of pollers) await stop()
  })
}

export default fp(audit, { name: 'audit', dependencies: ['env', 'database', 'vault', 'closing', 'outbound'] })
