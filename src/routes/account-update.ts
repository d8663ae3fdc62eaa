import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import {
  DatabaseUnavailable, MalformedJson, Overloaded, PayloadTooLarge, SignatureInvalid, VerifyTokenMismatch
} from '../errors.js'
import {
  Challenge, Delivery, DeliveryHeaders, DeliveryQuery, Received, VerifyQuery
} from '../schemas/account-update.js'

// Meta sends up to 3 MB.
const BODY_LIMIT_BYTES = 3 * 1024 * 1024
/** Deliveries in memory at once. Anybody may send one, and the signature is checked once it is read. */
const MAX_READING = 8
const SIGNATURE = /^sha256=[0-9a-f]{64}$/

const path = '/onboard/account-update'
const tags = ['webhooks']

/** The app's webhook for account updates. It needs no bearer token: Meta signs its deliveries. */
const accountUpdate: FastifyPluginAsyncTypebox = async (fastify) => {
  const { accountUpdates } = fastify
  const reading = new Set<FastifyRequest>()
  const release = async (request: FastifyRequest) => { reading.delete(request) }

  fastify.removeAllContentTypeParsers()
  fastify.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => { done(null, body) })
  fastify.addHook('onRequest', async ({ headers }, reply) => {
    reply.header('cache-control', 'no-store')
    // The signature covers the bytes, not their type.
    delete headers['content-type']
  })
  // In a hook, after that of request-parsing: it would add the errors of JSON bodies to this route.
  fastify.addHook('onRoute', (route) => {
    if (route.method === 'POST') route.schema = { ...route.schema, body: Delivery }
  })

  fastify.post(path, {
    bodyLimit: BODY_LIMIT_BYTES,
    config: { errors: [MalformedJson, PayloadTooLarge, SignatureInvalid, DatabaseUnavailable] },
    schema: {
      operationId: 'receiveAccountUpdate',
      summary: 'Take an account_update of Meta',
      description: 'PARTNER_REMOVED, PARTNER_APP_UNINSTALLED and ACCOUNT_DELETED deactivate the tenants that they ' +
        'are about; ACCOUNT_OFFBOARDED and DISABLED_UPDATE (DISABLE) suspend them; ACCOUNT_RECONNECTED and ' +
        'DISABLED_UPDATE (REINSTATE) have a suspended one checked at Meta after the answer, and turned on if that ' +
        'holds. An update is about the tenants on the account of waba_info, else on that of entry.id, and about one ' +
        'number alone if it has a phone_number. What is older than the last update that counted or than the ' +
        'onboarding, what was received before, and anything else changes nothing.',
      tags,
      security: [],
      headers: DeliveryHeaders,
      querystring: DeliveryQuery,
      response: { 200: Received }
    },
    onRequest: async (request) => {
      if (!SIGNATURE.test(String(request.headers['x-hub-signature-256']))) throw new SignatureInvalid()
      if (reading.size >= MAX_READING) throw new Overloaded()
      reading.add(request)
    },
    onSend: release,
    onRequestAbort: release
  }, async ({ headers, body }) => {
    const bytes = Buffer.isBuffer(body) ? body : Buffer.alloc(0)
    if (!accountUpdates.isSigned(bytes, String(headers['x-hub-signature-256']))) throw new SignatureInvalid()
    await accountUpdates.receive(bytes)
    return { success: true } as const
  })

  fastify.get(path, {
    config: { errors: [VerifyTokenMismatch] },
    schema: {
      operationId: 'verifyAccountUpdate',
      summary: 'Answer Meta, which verifies this webhook',
      tags,
      security: [],
      querystring: VerifyQuery,
      response: { 200: { description: 'The challenge', content: { 'text/plain': { schema: Challenge } } } }
    },
    // Before validation, like the guards of the other routes.
    onRequest: async ({ query }) => {
      const { 'hub.mode': mode, 'hub.verify_token': token = '' } = query
      if (mode !== 'subscribe' || !accountUpdates.isVerifyToken(String(token))) throw new VerifyTokenMismatch()
    }
  }, async ({ query }, reply) => {
    reply.type('text/plain; charset=utf-8').header('x-content-type-options', 'nosniff')
    return query['hub.challenge']
  })
}

export default accountUpdate
