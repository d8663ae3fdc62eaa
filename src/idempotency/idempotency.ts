import { createHash, randomUUID } from 'node:crypto'
import { Type } from '@sinclair/typebox'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import type { Database } from '../database/database.js'
import type { StoredAnswer } from '../database/schema/idempotency.js'
import type { Queryable } from '../database/statement.js'
import { IdempotencyInProgress, IdempotencyKeyReused } from '../errors.js'
import { addErrors } from '../http/route-errors.js'
import { idempotencyKey } from '../schemas/fields.js'
import type { Vault } from '../vault/vault.js'
import {
  deleteSurplusKeys, endLease, leaseKey, renewLease, storeAnswer, type Lease
} from './idempotency-keys.sql.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Whether a request that is repeated with its `Idempotency-Key` gets the first answer. */
    idempotent?: boolean
  }
  interface FastifyRequest {
    /** The lease of the request on its idempotency key; null without a key. */
    keyLease: KeyLease | null
  }
}

/** The answer of a handler before it is serialized. */
interface Answer { status: number, headers: Record<string, string>, payload: Record<string, unknown> }

/** The right of a request to execute under its idempotency key. */
interface KeyLease {
  /**
   * Returns a function that stores the answer for a result in the transaction of the handler. After a crash a repeated
   * request finds both what was done and the answer, or neither.
   */
  storing: <T>(reply: FastifyReply, answer: (result: T) => Answer) => (tx: Queryable, result: T) => Promise<void>
  /** Stores the answer as it leaves, or lets the same request execute again. */
  settle: (reply: FastifyReply, body: string) => Promise<void>
}

interface IdempotencyDependencies {
  database: Pick<Database, 'ofTenant'>
  vault: Pick<Vault, 'fingerprints'>
}

/** Well below the 15 seconds of the lease. */
const RENEW_MS = 5000
/** The headers that belong to an answer. All others belong to its connection, its time or its client. */
const STORED_HEADERS = ['content-type', 'etag', 'location']
/** The content type that Fastify gives an object. */
const JSON_TYPE = 'application/json; charset=utf-8'

const KeyHeader = Type.Object({
  'idempotency-key': Type.Optional(idempotencyKey({
    description: 'A random value, new for each new request. ' +
      'For 24 hours the same request with the same key gets the first answer, ' +
      'with the header `idempotent-replayed: true`, and nothing is executed. ' +
      'After 409, 429 and 5xx it is executed again',
    examples: ['8e03978e-40d5-43dd-bc93-6894a57f9324']
  }))
})

/**
 * Creates the hooks of the idempotent routes, for the header `Idempotency-Key`.
 * Source: draft-ietf-httpapi-idempotency-key-header-07; docs.stripe.com/api/idempotent_requests
 */
export function createIdempotency ({ database, vault }: IdempotencyDependencies) {
  return {
    /**
     * Leases the key of a request before its handler runs, or answers in place of that: with the first answer, with
     * `IDEMPOTENCY_KEY_REUSED` after another request, with `IDEMPOTENCY_IN_PROGRESS` before there is an answer.
     * Without a key it does nothing.
     */
    async acquireLease (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply | undefined> {
      const given = request.headers['idempotency-key']
      if (typeof given !== 'string') return
      const lease = { tenantId: request.tenant.id, keyHash: hashed(unquoted(given)), owner: randomUUID() }
      const { isOwner, isSame, answer } =
        await leaseKey(database.ofTenant(lease.tenantId), lease, vault.fingerprints(describeRequest(request, lease)))
      if (!isSame) throw new IdempotencyKeyReused()
      if (answer !== null) {
        return reply.code(answer.status).headers({ ...answer.headers, 'idempotent-replayed': 'true' })
          .serializer((body) => body).send(answer.body)
      }
      if (!isOwner) throw new IdempotencyInProgress()
      request.keyLease = keepLease(lease, request.log)
    },

    /** Settles the lease of a request, if it has one. */
    async settle ({ keyLease }: FastifyRequest, reply: FastifyReply, payload: unknown): Promise<void> {
      if (keyLease !== null) await keyLease.settle(reply, String(payload))
    }
  }

  /** Renews a lease until it is settled. */
  function keepLease (lease: Lease, log: FastifyRequest['log']): KeyLease {
    const own = database.ofTenant(lease.tenantId)
    const renewing = setInterval(() => {
      renewLease(own, lease).catch((err: unknown) => {
        log.debug({ err }, 'the lease on an idempotency key was not renewed')
      })
    }, RENEW_MS).unref()

    async function end (reply: FastifyReply, body: string): Promise<void> {
      if (isFinal(reply)) await storeAnswer(own, lease, answerOf(reply, body))
      else await endLease(own, lease)
      await deleteSurplusKeys(own, lease.tenantId)
    }

    return {
      storing: (reply, answer) => async (tx, result) => {
        const { status, headers: given, payload } = answer(result)
        const body = String(reply.serializeInput(payload, String(status)))
        const headers = { 'content-type': JSON_TYPE, ...given }
        if (!await storeAnswer(tx, lease, { status, headers, body })) throw new IdempotencyInProgress()
      },

      async settle (reply, body) {
        clearInterval(renewing)
        const ended = end(reply, body).catch((err: unknown) => {
          log.warn({ err }, 'an idempotency key was not settled: without an answer the same request executes again')
        })
        // The database may be away, and the client waits for `retry-after` anyway.
        if (reply.statusCode !== 503) await ended
      }
    }
  }
}

/** Adds the header `Idempotency-Key` to the routes of this scope that are `idempotent`. They need a tenant. */
async function idempotency (fastify: FastifyInstance): Promise<void> {
  const { acquireLease, settle } = createIdempotency(fastify)
  fastify.decorateRequest('keyLease', null)
  fastify.addHook('onRoute', (route) => {
    if (route.config?.idempotent !== true) return
    addErrors(route, IdempotencyInProgress, IdempotencyKeyReused)
    route.schema = { ...route.schema, headers: KeyHeader }
    route.preHandler = acquireLease
    route.onSend = settle
  })
}

// Without its dependencies: `npm run openapi` describes the routes without a database.
export default fp(idempotency, { name: 'idempotency' })

/** Returns the key without the quotes and escapes of a structured field (RFC 9651, section 3.3.3). */
const unquoted = (given: string) => given.startsWith('"') ? given.slice(1, -1).replace(/\\(.)/g, '$1') : given

const hashed = (key: string) => createHash('sha256').update(key).digest('base64url')

/**
 * Returns what identifies a request. The body as it was read: white space and the order of the fields do not matter,
 * since some clients write them anew for each attempt. Tenant and key make equal bodies look different in the database.
 */
function describeRequest ({ method, routeOptions, body }: FastifyRequest, { tenantId, keyHash }: Lease): string {
  return JSON.stringify([tenantId, keyHash, method, routeOptions.url, Object.entries(body ?? {}).sort()])
}

/**
 * Whether a repeated request gets this answer too. A conflict may pass, as a limit and a fault do. A client that left
 * may be why its request failed.
 */
function isFinal ({ statusCode: status, raw }: FastifyReply): boolean {
  return status < 400 || (status < 500 && status !== 409 && status !== 429 && !raw.destroyed)
}

function answerOf (reply: FastifyReply, body: string): StoredAnswer {
  const headers = STORED_HEADERS.flatMap((name) => reply.hasHeader(name) ? [[name, String(reply.getHeader(name))]] : [])
  return { status: reply.statusCode, headers: Object.fromEntries(headers), body }
}
