import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import {
  ConfigNotFound, DatabaseUnavailable, InvalidCursor, PreconditionFailed, SecretUnreadable, VersionNotFound
} from '../../errors.js'
import { readIfMatch } from '../../http/conditional/entity-tags.js'
import { etag, IfMatch, NoBody } from '../../schemas/config.js'
import { VersionParams, VERSIONS_PAGE_SIZE, VersionsQuery } from '../../schemas/history/versions.js'

const tags = ['config']

/** The former states of the tenant's configuration: list them, read one, restore one. */
const versions: FastifyPluginAsyncTypebox = async (fastify) => {
  const { tenantConfigs } = fastify

  fastify.get('/config/versions', {
    config: { errors: [InvalidCursor, DatabaseUnavailable] },
    schema: {
      operationId: 'listVersions',
      summary: 'List the former states, the newest first, a page at a time',
      description: 'Each change keeps what the configuration was before it, whoever made the change.',
      tags,
      querystring: VersionsQuery,
      response: { 200: Type.Ref('VersionPage') }
    }
  }, async ({ tenant, query: { limit = VERSIONS_PAGE_SIZE, cursor } }) => {
    const { versions, next } = await tenantConfigs.versions.list(tenant.id, { limit, cursor })
    return { versions, next_cursor: next }
  })

  fastify.get('/config/versions/:n', {
    config: { errors: [VersionNotFound, SecretUnreadable, DatabaseUnavailable] },
    schema: {
      operationId: 'getVersion',
      summary: 'Read a former state, secrets masked',
      tags,
      params: VersionParams,
      response: { 200: Type.Ref('Version') }
    }
  }, async ({ tenant, params: { n } }) =>
    tenantConfigs.masked(await tenantConfigs.versions.find(tenant.id, n)))

  fastify.post('/config/versions/:n/restore', {
    config: {
      errors: [ConfigNotFound, VersionNotFound, PreconditionFailed, SecretUnreadable, DatabaseUnavailable],
      audit: { action: 'config.restore' }
    },
    schema: {
      operationId: 'restoreVersion',
      summary: 'Restore a former state',
      description: 'The fields that PUT writes become what they were; a deleted configuration is created again. ' +
        'Another `waba_id`, `phone_number_id` or `access_token` than the present one is unverified, as after a PUT. ' +
        'It is a change as any other, so that it can be undone too.',
      tags,
      params: VersionParams,
      headers: IfMatch,
      body: NoBody,
      response: { 200: Type.Ref('MaskedConfig', { headers: { etag } }) }
    }
  }, async ({ tenant, params: { n }, headers }, reply) => {
    const row = await tenantConfigs.versions.restore(tenant.id, n, {
      ifMatch: readIfMatch(headers), actor: tenant.userId
    })
    reply.header('etag', row.etag)
    return tenantConfigs.maskedAfterWrite(row)
  })
}

export default versions
