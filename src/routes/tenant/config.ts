import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import {
  ConfigChanging,
  ConfigExists,
  ConfigNotFound,
  DatabaseUnavailable,
  MaskedValue,
  MetaAppNotConfigured,
  MetaAppRejected,
  MetaRateLimited,
  MetaTimeout,
  MetaUnavailable,
  MetaUnexpectedReply,
  MetaUnsubscribeRefused,
  RevealDisabled,
  ScopeMissing,
  SecretUnreadable,
  ServiceClosing
} from '../../errors.js'
import { clientSignal } from '../../http/client-signal.js'
import { ConfigCreate, ConfigUpdate, DeleteQuery, NoBody } from '../../schemas/config.js'

const tags = ['config']
const readErrors = [ConfigNotFound, SecretUnreadable, DatabaseUnavailable]
const deleteErrors = [
  ConfigNotFound,
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

/** The tenant's configuration: read, create, change, delete. */
const config: FastifyPluginAsyncTypebox = async (fastify) => {
  const location = Type.String({
    description: 'Where the configuration is to be read',
    examples: [`${fastify.prefix}/config`]
  })
  const { auth, tenantConfigs, offboarding } = fastify

  fastify.get('/config', {
    config: { errors: readErrors },
    schema: {
      operationId: 'getConfig',
      summary: 'Read the configuration, secrets masked',
      tags,
      response: { 200: Type.Ref('MaskedConfig') }
    }
  }, async ({ tenant }) => tenantConfigs.masked(await findRow(tenant.id)))

  fastify.get('/config/full', {
    onRequest: async (request) => { auth.assertMayReveal(request) },
    config: { errors: [ScopeMissing, RevealDisabled, ...readErrors] },
    schema: {
      operationId: 'getFullConfig',
      summary: 'Read the configuration, secrets in clear',
      description: 'The platform decides which tokens of the tenant may (`FULL_CONFIG_ACCESS`): ' +
        'all, those with a certain scope in the claim `scope` or `scp`, or none.',
      tags,
      response: { 200: Type.Ref('FullConfig') }
    }
  }, async ({ tenant }) => tenantConfigs.reveal(await findRow(tenant.id)))

  fastify.post('/config', {
    config: { errors: [MaskedValue, ConfigExists, DatabaseUnavailable] },
    schema: {
      operationId: 'createConfig',
      summary: 'Create the configuration',
      tags,
      body: ConfigCreate,
      response: { 201: Type.Ref('MaskedConfig', { headers: { location } }) }
    }
  }, async ({ tenant, body, routeOptions }, reply) => {
    const row = await tenantConfigs.create(tenant.id, tenant.userId, body)
    // Not the URL of the request, which may hold another host or a query.
    reply.code(201).header('location', routeOptions.url)
    return tenantConfigs.maskedAfterWrite(row)
  })

  fastify.put('/config', {
    config: { errors: [MaskedValue, ConfigNotFound, DatabaseUnavailable] },
    schema: {
      operationId: 'updateConfig',
      summary: 'Change some fields: one left out stays, null clears it',
      description: 'Another `waba_id`, `phone_number_id` or `access_token` is unverified: ' +
        '`onboarding_completed` turns false and `last_verified_at` null. ' +
        'Other ids end the verified identity; another token keeps it. ' +
        'With a new `access_token`, `token_expires_at` turns null unless you send it.',
      tags,
      body: ConfigUpdate,
      response: { 200: Type.Ref('MaskedConfig') }
    }
  }, async ({ tenant, body }) => tenantConfigs.maskedAfterWrite(await tenantConfigs.update(tenant.id, body)))

  fastify.delete('/config', {
    config: { errors: deleteErrors, callsMeta: true },
    schema: {
      operationId: 'deleteConfig',
      summary: 'Delete the configuration',
      description: 'With `unsubscribe=true` our app is first taken off the WhatsApp Business Account, ' +
        'unless a verified number of another tenant lives there. ' +
        'If that fails nothing is deleted, but with `force=true` all the same.',
      tags,
      querystring: DeleteQuery,
      body: NoBody,
      response: { 204: Type.Null({ description: 'Deleted' }) }
    }
  }, async ({ tenant, query: { unsubscribe = false, force = false } }, reply) => {
    await (unsubscribe ? offboarding.offboard(tenant.id, force, clientSignal(reply)) : tenantConfigs.remove(tenant.id))
    reply.code(204)
  })

  async function findRow (tenantId: string) {
    const row = await tenantConfigs.find(tenantId)
    if (row === null) throw new ConfigNotFound()
    return row
  }
}

export default config
