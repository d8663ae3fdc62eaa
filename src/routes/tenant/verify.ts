import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import {
  ConfigNotFound,
  DatabaseUnavailable,
  MaskedValue,
  MetaAppNotConfigured,
  MetaAppRejected,
  MetaRateLimited,
  MetaTimeout,
  MetaUnavailable,
  MetaUnexpectedReply,
  PhoneNumberTaken,
  SecretUnreadable,
  ServiceClosing
} from '../../errors.js'
import { clientSignal } from '../../http/client-signal.js'
import { VerifyBody } from '../../schemas/config.js'

/** Verifies the tenant's stored credentials at Meta, or tries out others. */
const verify: FastifyPluginAsyncTypebox = async (fastify) => {
  const { verification, tenantConfigs } = fastify

  fastify.post('/config/verify', {
    config: {
      callsMeta: true,
      errors: [
        MaskedValue, ConfigNotFound, PhoneNumberTaken, SecretUnreadable, DatabaseUnavailable,
        MetaAppNotConfigured, MetaAppRejected, MetaUnexpectedReply, MetaRateLimited, MetaUnavailable, MetaTimeout,
        ServiceClosing
      ],
      audit: { action: 'config.verify' }
    },
    schema: {
      operationId: 'verifyConfig',
      summary: 'Prove the credentials against Meta, now',
      description: 'Without a body, those that are stored: where token and assets hold, account and number are ' +
        'verified, and `last_verified_at` and `token_expires_at` are updated. ' +
        'With one, what is stored with the fields of the body laid over it, and nothing is written.',
      tags: ['config'],
      body: VerifyBody,
      response: { 200: Type.Ref('Verification') }
    }
  }, async ({ tenant, body }, reply) => {
    const client = clientSignal(reply)
    const isDryRun = body !== null && body !== undefined && Object.keys(body).length > 0
    const { checks, row } = isDryRun
      ? await verification.tryOut(tenant.id, body, client)
      : await verification.verify(tenant.id, client)
    return { ok: checks.every(({ ok }) => ok), checks, config: row && tenantConfigs.maskedAfterWrite(row) }
  })
}

export default verify
