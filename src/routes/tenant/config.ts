import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import type { FastifyReply } from 'fastify'
import {
  ConfigExists,
  ConfigNotFound,
  DatabaseUnavailable,
  MaskedValue,
  PreconditionFailed,
  RevealDisabled,
  ScopeMissing,
  SecretUnreadable
} from '../../errors.js'
import { isKnown, readIfMatch } from '../../http/conditional/entity-tags.js'
import { ConfigCreate, ConfigUpdate, etag, IfMatch, IfNoneMatch, NotModified } from '../../schemas/config.js'

const tags = ['config']
const readErrors = [ConfigNotFound, SecretUnreadable, DatabaseUnavailable]

/** The tenant's configuration: read, create, change. */
const config: FastifyPluginAsyncTypebox = async (fastify) => {
  const location = Type.String({
    description: 'Where the configuration is to be read',
    examples: [`${fastify.prefix}/config`]
  })
  const { auth, tenantConfigs } = fastify

  fastify.get('/config', {
    config: { errors: readErrors },
    schema: {
      operationId: 'getConfig',
      summary: 'Read the configuration, secrets masked',
      tags,
      headers: IfNoneMatch,
      response: { 200: Type.Ref('MaskedConfig', { headers: { etag } }), 304: NotModified }
    }
  }, async ({ tenant, headers }, reply) => {
    const row = await findRow(tenant.id, reply)
    if (!isKnown(headers, row.etag)) return tenantConfigs.masked(row)
    reply.code(304)
  })

  fastify.get('/config/full', {
    onRequest: async (request) => { auth.assertMayReveal(request) },
    config: { errors: [ScopeMissing, RevealDisabled, ...readErrors], audit: { action: 'config.read_full' } },
    schema: {
      operationId: 'getFullConfig',
      summary: 'Read the configuration, secrets in clear',
      description: 'The platform decides which tokens of the tenant may (`FULL_CONFIG_ACCESS`): ' +
        'all, those with a certain scope in the claim `scope` or `scp`, or none.',
      tags,
      headers: IfNoneMatch,
      response: { 200: Type.Ref('FullConfig', { headers: { etag } }), 304: NotModified }
    }
  }, async ({ tenant, headers }, reply) => {
    const row = await findRow(tenant.id, reply)
    if (!isKnown(headers, row.etag)) return tenantConfigs.reveal(row)
    reply.code(304)
  })

  fastify.post('/config', {
    config: {
      idempotent: true, errors: [MaskedValue, ConfigExists, DatabaseUnavailable], audit: { action: 'config.create' }
    },
    schema: {
      operationId: 'createConfig',
      summary: 'Create the configuration',
      tags,
      body: ConfigCreate,
      response: { 201: Type.Ref('MaskedConfig', { headers: { location, etag } }) }
    }
  }, async ({ tenant, body, routeOptions, keyLease }, reply) => {
    const answer = (row: Awaited<ReturnType<typeof tenantConfigs.create>>) => ({
      status: 201 as const,
      // Not the URL of the request, which may hold another host or a query.
      headers: { location: String(routeOptions.url), etag: row.etag },
      payload: tenantConfigs.maskedAfterWrite(row)
    })
    const row = await tenantConfigs.create(tenant.id, tenant.userId, body, keyLease?.storing(reply, answer))
    const { status, headers, payload } = answer(row)
    reply.code(status).headers(headers)
    return payload
  })

  fastify.put('/config', {
    config: {
      errors: [MaskedValue, ConfigNotFound, PreconditionFailed, DatabaseUnavailable], audit: { action: 'config.update' }
    },
    schema: {
      operationId: 'updateConfig',
      summary: 'Change some fields: one left out stays, null clears it',
      description: 'Another `waba_id`, `phone_number_id` or `access_token` is unverified: ' +
        '`onboarding_completed` turns false and `last_verified_at` null. ' +
        'Other ids end the verified identity; another token keeps it. ' +
        'With a new `access_token`, `token_expires_at` turns null unless you send it.',
      tags,
      headers: IfMatch,
      body: ConfigUpdate,
      response: { 200: Type.Ref('MaskedConfig', { headers: { etag } }) }
    }
  }, async ({ tenant, body, headers }, reply) => {
    const row = await tenantConfigs.update(tenant.id, body, {
      ifMatch: readIfMatch(headers), actor: tenant.userId
    })
    reply.header('etag', row.etag)
    return tenantConfigs.maskedAfterWrite(row)
  })

  async function findRow (tenantId: string, reply: FastifyReply) {
    const row = await tenantConfigs.find(tenantId)
    if (row === null) throw new ConfigNotFound()
    reply.header('etag', row.etag)
    return row
  }
}

export default config
