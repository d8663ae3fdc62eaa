import assert from 'node:assert'
import type { FastifyInstance } from 'fastify'
import { createCheckRecorder } from '../../src/token-watch/check-recorder.js'

/** Records, as a check with this claim does, that Meta extended a stored token. */
export async function recordExtension (
  app: FastifyInstance, tenantId: string, { stored, claim }: { stored: string, claim: string },
  replacement: { sealed: string, expires_at: string | null }
): Promise<void> {
  const { tenantConfigs, tokenWatch, events, audit, env: { TOKEN_CHECK_INTERVAL_MS: interval } } = app
  const row = await tenantConfigs.find(tenantId)
  assert(row !== null)
  const recordCheck = createCheckRecorder({ tenantConfigs, tokenWatch, events, audit, interval })
  const finding = { valid: true, expires_at: replacement.expires_at, data_access_ends_at: null } as const
  await recordCheck(
    { row: { ...row, is_verified: true, data_access_ends_at: null }, sealed: stored, claim },
    { finding, replacement, listing: null }
  )
}
