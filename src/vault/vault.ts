import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { SecretColumn } from '../schemas/columns.js'
import { SecretUnreadable } from '../errors.js'
import { parseKeyRing } from '../settings/key-ring.js'
import { checkKeys } from './key-check.sql.js'

const IV_BYTES = 12
const TAG_BYTES = 16
// Asking for random bytes costs the same for one IV and for many.
const IV_BATCH_SIZE = 256
const SEALED = /^v1\.([A-Za-z0-9_-]{1,32})\.([A-Za-z0-9_-]+)$/

declare module 'fastify' {
  interface FastifyInstance { vault: Vault }
}

export type Vault = ReturnType<typeof createVault>

/**
 * Seals and opens secrets with AES-256-GCM (NIST SP 800-38D), as `v1.<key id>.<base64url(iv ‖ ciphertext ‖ tag)>`.
 * Takes a ring as `ENCRYPTION_KEYS` has it: the first key seals, all open. Throws when the ring is unusable.
 */
export function createVault ({ keyRing }: { keyRing: string }) {
  const ring = parseKeyRing(keyRing)
  const keys = new Map<string | undefined, Buffer>(ring.map(({ id, key }) => [id, key]))
  const [sealing] = ring
  let ivs = Buffer.alloc(0)

  function nextIv (): Buffer {
    if (ivs.length === 0) ivs = randomBytes(IV_BYTES * IV_BATCH_SIZE)
    const iv = ivs.subarray(0, IV_BYTES)
    ivs = ivs.subarray(IV_BYTES)
    return iv
  }

  /** Seals with one named key of the ring; `aad` must be the same at opening. */
  function sealWith (id: string, key: Buffer, clear: string, aad: string): string {
    const iv = nextIv()
    const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(aad))
    const payload = Buffer.concat([iv, cipher.update(clear), cipher.final(), cipher.getAuthTag()])
    return `v1.${id}.${payload.toString('base64url')}`
  }

  function openWith (sealed: string, aad: string): string {
    const [, id, payload = ''] = SEALED.exec(sealed) ?? []
    const key = keys.get(id)
    if (key === undefined) throw new SecretUnreadable()
    const bytes = Buffer.from(payload, 'base64url')
    try {
      // Refuses a tag of fewer than 16 bytes, and so a text that is too short.
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, IV_BYTES), { authTagLength: TAG_BYTES })
        .setAAD(Buffer.from(aad))
        .setAuthTag(bytes.subarray(-TAG_BYTES))
      const clear = decipher.update(bytes.subarray(IV_BYTES, -TAG_BYTES))
      decipher.final()
      return clear.toString()
    } catch {
      // What OpenSSL says of a wrong tag helps nobody and the reason is always the same.
      throw new SecretUnreadable()
    }
  }

  return {
    /** The ids of the ring, the sealing one first. */
    keyIds: ring.map(({ id }) => id),

    /** Seals a secret for one column of one tenant's row: anywhere else it does not open. */
    seal: (clear: string, tenantId: string, column: SecretColumn) => sealWith(sealing.id, sealing.key, clear, aadOf(tenantId, column)),

    /** Opens what `seal` made for the same tenant and column. Throws `SECRET_UNREADABLE` for everything else. */
    open: (sealed: string, tenantId: string, column: SecretColumn) => openWith(sealed, aadOf(tenantId, column)),

    /** The id of the key that a text was sealed with, whether it opens or not; null when it is no sealed text. */
    keyIdOf (sealed: string): string | null {
      return SEALED.exec(sealed)?.[1] ?? null
    },

    /** For each key of the ring a value that only this key can have sealed, to recognise it by. */
    checkValues: () => ring.map(({ id, key }) => ({ key_id: id, check_value: sealWith(id, key, CHECK, CHECK) })),

    /** Says whether the ring holds the very key that sealed this check value. */
    hasSealed (checkValue: string): boolean {
      try {
        return openWith(checkValue, CHECK) === CHECK
      } catch {
        return false
      }
    }
  }
}

const CHECK = 'whatsapp-tenant-config key check'

// A tenant id holds no control character, so the separator cannot be part of it.
const aadOf = (tenantId: string, column: SecretColumn) => `${tenantId}\0${column}`

/** Decorates `fastify.vault`. Refuses to boot when the ring does not fit what the database holds. */
async function vault (fastify: FastifyInstance): Promise<void> {
  const vault = createVault({ keyRing: fastify.env.ENCRYPTION_KEYS })
  // It reads all rows where a key was taken out of the ring.
  await fastify.database.withoutTimeout(async (database) => { await checkKeys(database, vault) })
  fastify.decorate('vault', vault)
}

export default fp(vault, { name: 'vault', dependencies: ['env', 'database'] })
