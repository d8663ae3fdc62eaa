import { hash, randomBytes } from 'node:crypto'
import { SERVICE_KEY_ID } from '../schemas/services/service-keys.js'

const SECRET_BYTES = 32
const ID = new RegExp(`^${SERVICE_KEY_ID}$`)
const KEY = new RegExp(`^wtc_(${SERVICE_KEY_ID})_[\\w-]{43}$`)

/** Tells whether a text can be the id of a key. */
export const isKeyId = (text: string) => ID.test(text)

/** Tells whether a bearer token is meant as a service key; no JWT begins so. */
export const isServiceKey = (token: string) => token.startsWith('wtc_')

/** Creates a key. Its id begins with the time, so that the keys sort by their age. */
export function createKey (): { id: string, key: string } {
  const id = Date.now().toString(16).padStart(12, '0') + randomBytes(4).toString('hex')
  return { id, key: `wtc_${id}_${randomBytes(SECRET_BYTES).toString('base64url')}` }
}

/** Reads the id of a key; undefined for a text that is no key. */
export const idOf = (key: string): string | undefined => KEY.exec(key)?.[1]

/**
 * Hashes a key. One round of SHA-256 is enough: nobody can guess 256 random bits. A slow hash is for passwords, and
 * would cost each request many times the rest of it.
 */
export const hashOf = (key: string) => hash('sha256', key, 'base64url')
