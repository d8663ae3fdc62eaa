import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { SecretColumn } from '../schemas/columns.js'
import { SecretUnreadable } from '../errors.js'
import { parseKeyRing } from '../settings/key-ring.js'
import { checkKeys } from './key-check.sql.js'

const IV_BYTES = 12
const TAG_BYTES = 16
// A call of `randomBytes` costs about the same for one IV and for many.
const IV_BATCH_SIZE = 256
const SEALED = /^v1\.([A-Za-z0-9_-]{1,32})\.([A-Za-z0-9_-]+)$/

declare module 'fastify' {
  interface FastifyInstance { vault: Vault }
}

export type Vault = ReturnType<typeof createVault>

/**
 * Creates the vault. It seals with AES-256-GCM (NIST SP 800-38D) to
 * `v1.<key id>.<base64url(iv ‖ ciphertext ‖ tag)>`.
 *
 * @param options.keyRing as `ENCRYPTION_KEYS`: the first key seals, all open
 * @throws when the ring is invalid
 */
export function createVault ({ keyRing }: { keyRing: string }) {
  const ring = parseKeyRing(keyRing)
  const keys = new Map<string | undefined, Buffer>(ring.map(({ id, key }) => [id, key]))
  const [sealingKey] = ring
  let ivs = Buffer.alloc(0)

  function nextIv (): Buffer {
    if (ivs.length === 0) ivs = randomBytes(IV_BYTES * IV_BATCH_SIZE)
    const iv = ivs.subarray(0, IV_BYTES)
    ivs = ivs.subarray(IV_BYTES)
    return iv
  }

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
      // `authTagLength` makes a short tag an error, and so a text without room for one.
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, IV_BYTES), { authTagLength: TAG_BYTES })
        .setAAD(Buffer.from(aad))
        .setAuthTag(bytes.subarray(-TAG_BYTES))
      const clear = decipher.update(bytes.subarray(IV_BYTES, -TAG_BYTES))
      decipher.final()
      return clear.toString()
    } catch {
      // OpenSSL's error adds nothing: the tag is wrong.
      throw new SecretUnreadable()
    }
  }

  return {
    /** The id of the sealing key comes first. */
    keyIds: ring.map(({ id }) => id),

    /** Seals a secret for one column of one tenant's row; it opens for that place alone. */
    seal: (clear: string, tenantId: string, column: SecretColumn) =>
      sealWith(sealingKey.id, sealingKey.key, clear, aadOf(tenantId, column)),

    /**
     * Opens a secret that `seal` sealed for the same tenant and column.
     *
     * @throws SECRET_UNREADABLE for every other text
     */
    open: (sealed: string, tenantId: string, column: SecretColumn) => openWith(sealed, aadOf(tenantId, column)),

    /** Returns the key id in a sealed text, which may be unknown; null when the text is not sealed. */
    keyIdOf (sealed: string): string | null {
      return SEALED.exec(sealed)?.[1] ?? null
    },

    /** Seals a constant with each key: the value identifies the key. */
    checkValues: () => ring.map(({ id, key }) => ({ key_id: id, check_value: sealWith(id, key, CHECK, CHECK) })),

    /** Whether the ring holds the key that sealed a check value. */
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

/**
 * Decorates `fastify.vault`.
 *
 * @throws when the ring does not fit the database
 */
async function vault (fastify: FastifyInstance): Promise<void> {
  const vault = createVault({ keyRing: fastify.env.ENCRYPTION_KEYS })
  // Reads all rows when a key was removed from the ring, which may take long.
  await fastify.database.withoutTimeout(async (database) => { await checkKeys(database, vault) })
  fastify.decorate('vault', vault)
}

export default fp(vault, { name: 'vault', dependencies: ['env', 'database'] })
