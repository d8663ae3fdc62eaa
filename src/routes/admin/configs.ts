import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import {
  ConfigNotFound, ConfirmationMismatch, ConfirmationRequired, DatabaseUnavailable, InvalidCursor
} from '../../errors.js'
import { DeleteAllQuery, DeleteTenantQuery, ListQuery, PAGE_SIZE, TenantParams } from '../../schemas/admin.js'
import { NoBody } from '../../schemas/config.js'

const tags = ['admin']

/** All configurations: list them, explain one, delete one or all. */
const configs: FastifyPluginAsyncTypebox = async (fastify) => {
  const { tenantConfigs, configLoader } = fastify

  fastify.get('/configs/all', {
    config: { errors: [InvalidCursor, DatabaseUnavailable], serviceKeyScope: 'configs:read' },
    schema: {
      operationId: 'listConfigs',
      summary: 'List configurations by tenant id, a page at a time',
      tags,
      querystring: ListQuery,
      response: { 200: Type.Ref('ConfigPage') }
    }
  }, async ({ query: { cursor, limit = PAGE_SIZE, ...filters } }) => {
    const { configs, next } = await tenantConfigs.list({ ...filters, limit, cursor })
    return { configs, next_cursor: next }
  })

  fastify.get('/configs/effective/:id', {
    config: { errors: [DatabaseUnavailable], serviceKeyScope: 'configs:read' },
    schema: {
      operationId: 'getTenantEffectiveConfig',
      summary: 'See what internal code is served for one tenant, and why',
      description: 'What GET /config/effective answers that tenant. ' +
        'An id that nobody has is answered, too: the loader does not know more of it.',
      tags,
      params: TenantParams,
      response: { 200: Type.Ref('EffectiveConfig') }
    }
  }, async ({ params: { id } }) => await configLoader.explain(id))

  fastify.delete('/configs/delete-all', {
    config: {
      errors: [ConfirmationRequired, ConfirmationMismatch, DatabaseUnavailable], audit: { action: 'config.delete_all' }
    },
    schema: {
      operationId: 'deleteAllConfigs',
      summary: 'Delete every configuration, once confirmed',
      description: 'It takes two requests: the first deletes nothing and answers 428 with what to send as `confirm`.',
      tags,
      querystring: DeleteAllQuery,
      body: NoBody,
      response: { 200: Type.Ref('Deleted') }
    }
  }, async ({ query: { confirm = '' } }) => {
    if (confirm === '') {
      throw Object.assign(new ConfirmationRequired(), { confirm: `delete-all:${await tenantConfigs.count()}` })
    }
    const expected = /^delete-all:(0|[1-9]\d{0,14})$/.exec(confirm)?.[1]
    if (expected === undefined) throw new ConfirmationMismatch()
    const batch_id = await tenantConfigs.removeAll(Number(expected))
    return { deleted: Number(expected), batch_id }
  })

  fastify.delete('/configs/delete-tenant/:id', {
    config: {
      errors: [ConfigNotFound, DatabaseUnavailable],
      audit: { action: 'config.delete', ifPurged: 'config.purge', tenantField: 'id' }
    },
    schema: {
      operationId: 'deleteTenantConfig',
      summary: 'Delete the configuration of one tenant',
      tags,
      params: TenantParams,
      querystring: DeleteTenantQuery,
      body: NoBody,
      response: { 204: Type.Null({ description: 'Deleted' }) }
    }
  }, async ({ params: { id }, query: { purge = false } }, reply) => {
    await tenantConfigs.remove(id, { purge })
    reply.code(204)
  })
}

export default configs
