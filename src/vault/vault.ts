import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { SERVICE, type SealedPlace, type SecretColumn } from '../schemas/columns.js'
import { MASK } from '../schemas/fields.js'
import type { SealFormat } from '../schemas/statuses.js'
import { SecretUnreadable } from '../errors.js'
import { parseKeyRing } from '../settings/key-ring.js'
import { createFingerprints } from './fingerprints.js'
import { checkKeys } from './key-check.sql.js'
import { mask, tailOf } from './masking.js'
import { createSealCounter } from './seal-counter.js'
import { formatSealed, parseSealed, type SealedParts } from './sealed-text.js'
import { unwrapKeyRing } from './wrapping/wrapping.js'

const IV_BYTES = 12
const TAG_BYTES = 16
// A call of `randomBytes` costs about the same for one IV and for many.
const IV_BATCH_SIZE = 256

declare module 'fastify' {
  interface FastifyInstance { vault: Vault }
}

export type Vault = ReturnType<typeof createVault>

interface VaultOptions {
  /** As `ENCRYPTION_KEYS`, unwrapped: the first key seals, all open. */
  keyRing: string
  /** The format to seal in. */
  format?: SealFormat
}

/**
 * Creates the vault. It seals with AES-256-GCM (NIST SP 800-38D) to
 * `v2.<key id>.<hint>.<base64url(iv ‖ ciphertext ‖ tag)>`, or to `v1`, which has no hint. The hint is what a mask
 * shows of the secret, in base64url.
 *
 * @throws when the ring is invalid
 */
export function createVault ({ keyRing, format: givenFormat = 'v2' }: VaultOptions) {
  const ring = parseKeyRing(keyRing)
  const keys = new Map<string | undefined, Buffer>(ring.map(({ id, key }) => [id, key]))
  const [sealingKey] = ring
  let format = givenFormat
  let seals = 0
  let ivs = Buffer.alloc(0)

  function nextIv (): Buffer {
    if (ivs.length === 0) ivs = randomBytes(IV_BYTES * IV_BATCH_SIZE)
    const iv = ivs.subarray(0, IV_BYTES)
    ivs = ivs.subarray(IV_BYTES)
    return iv
  }

  /** Seals with a key, and returns the payload. */
  function encrypt (key: Buffer, clear: string, aad: string): string {
    const iv = nextIv()
    const cipher = createCipheriv('aes-256-gcm', key, iv).setAAD(Buffer.from(aad))
    return Buffer.concat([iv, cipher.update(clear), cipher.final(), cipher.getAuthTag()]).toString('base64url')
  }

  /** Opens a payload. Throws SECRET_UNREADABLE. */
  function decrypt ({ keyId, payload }: SealedParts, aad: string): string {
    const key = keys.get(keyId)
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

  function seal (clear: string, tenantId: string, column: SealedPlace): string {
    const { id: keyId, key } = sealingKey
    // Nobody needs to recognise a secret of the service.
    const hint = format === 'v1' || tenantId === SERVICE ? '' : Buffer.from(tailOf(clear)).toString('base64url')
    seals++
    return formatSealed({ format, keyId, hint, payload: encrypt(key, clear, aadOf(tenantId, column, format, hint)) })
  }

  function open (sealed: string, tenantId: string, column: SealedPlace): string {
    const parts = parseSealed(sealed)
    if (parts === null) throw new SecretUnreadable()
    return decrypt(parts, aadOf(tenantId, column, parts.format, parts.hint))
  }

  return {
    /** The id of the sealing key comes first. */
    keyIds: ring.map(({ id }) => id),

    /** Seals a secret for a column of a tenant's row, or for a name of the service. It opens for that place alone. */
    seal,

    /**
     * Opens a secret that `seal` sealed for the same tenant and column.
     *
     * @throws SECRET_UNREADABLE for every other text
     */
    open,

    /**
     * Masks a sealed secret. Opens it only in `v1`: the hint of `v2` is shown as it is stored, and proven when the
     * secret is opened.
     *
     * @throws SECRET_UNREADABLE for a text that is not sealed, and for `v1` that does not open
     */
    mask (sealed: string, tenantId: string, column: SecretColumn): string {
      const parts = parseSealed(sealed)
      return parts?.format === 'v2'
        ? MASK + Buffer.from(parts.hint, 'base64url').toString()
        : mask(open(sealed, tenantId, column))
    },

    /** Whether a sealed text is as `seal` would seal it now: by the first key, in the present format. */
    isCurrent (sealed: string): boolean {
      const parts = parseSealed(sealed)
      return parts?.keyId === sealingKey.id && parts.format === format
    },

    /** Returns the fingerprints of a text; see `createFingerprints`. */
    fingerprints: createFingerprints(ring),

    /** Seals in this format from now on. */
    useFormat (next: SealFormat): void { format = next },

    /** Returns how many secrets the first key sealed since the last call. */
    takeSeals (): number {
      const taken = seals
      seals = 0
      return taken
    },

    /**
     * Whether two sealed texts are the same secret of one place: the same text, or both open to it. A rotation replaces
     * the text between two statements.
     */
    isSame (one: string, other: string, tenantId: string, column: SecretColumn): boolean {
      try {
        return one === other || open(one, tenantId, column) === open(other, tenantId, column)
      } catch {
        return false
      }
    },

    /** Returns the key id in a sealed text, which may be unknown; null when the text is not sealed. */
    keyIdOf: (sealed: string): string | null => parseSealed(sealed)?.keyId ?? null,

    /** Seals a constant with each key: the value identifies the key. In `v1`, so that a former version opens it. */
    checkValues: () => ring.map(({ id, key }) => ({
      key_id: id,
      check_value: formatSealed({ format: 'v1', keyId: id, hint: '', payload: encrypt(key, CHECK, CHECK) })
    })),

    /** Whether the ring holds the key that sealed a check value. */
    hasSealed (checkValue: string): boolean {
      try {
        const parts = parseSealed(checkValue)
        return parts !== null && decrypt(parts, CHECK) === CHECK
      } catch {
        return false
      }
    }
  }
}

const CHECK = 'whatsapp-tenant-config key check'

// A tenant id holds no control character, so the separator cannot be part of it.
const aadOf = (tenantId: string, column: SealedPlace, format: SealFormat, hint: string) =>
  format === 'v1' ? `${tenantId}\0${column}` : `${tenantId}\0${column}\0${hint}`

/**
 * Decorates `fastify.vault`, and counts its seals from `onReady` to `onClose`.
 *
 * @throws when a key cannot be unwrapped, and when the ring does not fit the database
 */
async function vault (fastify: FastifyInstance): Promise<void> {
  const { database, env, log, outbound: { fetch } } = fastify
  const report = (line: string) => { log.warn(line) }
  const vault = createVault({ keyRing: await unwrapKeyRing(env, { fetch, report }) })
  // Reads all rows when a key was removed from the ring, which may take long.
  await database.withoutTimeout(async (db) => { vault.useFormat(await checkKeys(db, vault)) })
  fastify.decorate('vault', vault)
  const counter = createSealCounter({ database, vault, log })
  fastify.addHook('onReady', async () => { counter.start() })
  // Before the hook of the database, which was registered earlier, and after those of all that seal.
  fastify.addHook('onClose', async () => { await counter.stop() })
}

export default fp(vault, { name: 'vault', dependencies: ['env', 'outbound', 'database'] })
