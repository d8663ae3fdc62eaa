import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import {
  ConfigChanging,
  ConfigNotFound,
  DatabaseUnavailable,
  MetaAppNotConfigured,
  MetaAppRejected,
  MetaRateLimited,
  MetaTimeout,
  MetaUnavailable,
  MetaUnexpectedReply,
  MetaUnsubscribeRefused,
  PreconditionFailed,
  SecretUnreadable,
  ServiceClosing
} from '../../errors.js'
import { clientSignal } from '../../http/client-signal.js'
import { readIfMatch } from '../../http/conditional/entity-tags.js'
import { DeleteQuery, IfMatch, NoBody } from '../../schemas/config.js'

const errors = [
  ConfigNotFound,
  PreconditionFailed,
  DatabaseUnavailable,
  MetaUnsubscribeRefused,
  MetaAppNotConfigured,
  MetaAppRejected,
  MetaUnexpectedReply,
  MetaRateLimited,
  MetaUnavailable,
  MetaTimeout,
  SecretUnreadable,
  ConfigChanging,
  ServiceClosing
]

/** Deletes the tenant's configuration, on request with its subscription at Meta. */
const deletion: FastifyPluginAsyncTypebox = async (fastify) => {
  const { tenantConfigs, offboarding } = fastify

  fastify.delete('/config', {
    config: { errors, callsMeta: true, audit: { action: 'config.delete', ifPurged: 'config.purge' } },
    schema: {
      operationId: 'deleteConfig',
      summary: 'Delete the configuration',
      description: 'With `unsubscribe=true` our app is first taken off the WhatsApp Business Account, ' +
        'unless a verified number of another tenant lives there. ' +
        'If that fails nothing is deleted, but with `force=true` all the same. ' +
        'A configuration that does not match `if-match`, or changes meanwhile, stays subscribed. ' +
        'Its former states stay for a time, this last one too; `purge=true` deletes them at once.',
      tags: ['config'],
      headers: IfMatch,
      querystring: DeleteQuery,
      body: NoBody,
      response: { 204: Type.Null({ description: 'Deleted' }) }
    }
  }, async ({ tenant, headers, query: { unsubscribe = false, force = false, purge = false } }, reply) => {
    const terms = { ifMatch: readIfMatch(headers), actor: tenant.userId, purge }
    await (unsubscribe
      ? offboarding.offboard(tenant.id, { ...terms, force }, clientSignal(reply))
      : tenantConfigs.remove(tenant.id, terms))
    reply.code(204)
  })
}

export default deletion
