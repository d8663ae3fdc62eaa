import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { Type } from '@sinclair/typebox'
import { DatabaseUnavailable, InvalidCursor, ServiceKeyNotFound } from '../../errors.js'
import { NoBody } from '../../schemas/config.js'
import {
  KEYS_PAGE_SIZE, ServiceKeyCreate, ServiceKeyParams, ServiceKeysQuery
} from '../../schemas/services/service-keys.js'

const tags = ['admin']

/** The keys of code in other languages: create, list, delete. */
const keys: FastifyPluginAsyncTypebox = async (fastify) => {
  const { serviceKeys } = fastify

  fastify.post('/service-keys', {
    config: { errors: [DatabaseUnavailable], audit: { action: 'service_key.create' } },
    schema: {
      operationId: 'createServiceKey',
      summary: 'Create a key for code of the platform',
      description: 'The answer is the only one that shows the key; the service stores its hash. To change a key, ' +
        'create another one, and delete the old one when it is no longer used.',
      tags,
      body: ServiceKeyCreate,
      response: { 201: Type.Ref('NewServiceKey') }
    }
  }, async ({ body, actor }, reply) => {
    reply.code(201)
    return await serviceKeys.create(body, { ...actor }.id)
  })

  fastify.get('/service-keys', {
    config: { errors: [InvalidCursor, DatabaseUnavailable] },
    schema: {
      operationId: 'listServiceKeys',
      summary: 'List the service keys, the newest first, a page at a time',
      tags,
      querystring: ServiceKeysQuery,
      response: { 200: Type.Ref('ServiceKeyPage') }
    }
  }, async ({ query: { cursor, limit = KEYS_PAGE_SIZE } }) => {
    const { keys, next } = await serviceKeys.list({ limit, cursor })
    return { service_keys: keys, next_cursor: next }
  })

  fastify.delete('/service-keys/:id', {
    config: { errors: [ServiceKeyNotFound, DatabaseUnavailable], audit: { action: 'service_key.delete' } },
    schema: {
      operationId: 'deleteServiceKey',
      summary: 'Delete a service key',
      description: 'Every instance refuses it within a second.',
      tags,
      params: ServiceKeyParams,
      body: NoBody,
      response: { 204: Type.Null({ description: 'Deleted' }) }
    }
  }, async ({ params: { id } }, reply) => {
    await serviceKeys.remove(id)
    reply.code(204)
  })
}

export default keys
