import { readBody } from '../../outbound/body.js'
import type { Fetch } from '../../outbound/outbound.js'
import type { Env } from '../../settings/env.js'
import { encryptionContext, KmsFault, whyNoAnswer, type Kms } from './kms.js'

const MAX_BODY_BYTES = 64 * 1024

type TransitEnv = Pick<Env, 'TRANSIT_ADDR' | 'TRANSIT_TOKEN' | 'TRANSIT_MOUNT' | 'TRANSIT_KEY'>

/**
 * Creates the access to the Transit engine of OpenBao or of Vault, 1.13 or newer. Older ones ignore `associated_data`.
 * Source: openbao.org/api-docs/secret/transit, "Encrypt data" and "Decrypt data"
 *
 * @throws KmsFault without TRANSIT_ADDR, TRANSIT_TOKEN or TRANSIT_KEY
 */
export function createTransit (
  { TRANSIT_ADDR: address, TRANSIT_TOKEN: token, TRANSIT_MOUNT: mount, TRANSIT_KEY: key }: TransitEnv, fetch: Fetch
): Kms {
  if (address === undefined || token === undefined || key === undefined) {
    const all = Object.entries({ TRANSIT_ADDR: address, TRANSIT_TOKEN: token, TRANSIT_KEY: key })
    const missing = all.filter(([, value]) => value === undefined).map(([name]) => name)
    throw new KmsFault(`Not set: ${missing.join(', ')}. Transit needs them; .env.example describes each.`)
  }
  const base = `${address.replace(/\/+$/, '')}/v1`
  const headers = {
    'x-vault-token': token,
    // A proxy of OpenBao may require it.
    'x-vault-request': 'true',
    'content-type': 'application/json'
  }

  /** Makes one call, and returns a field of its answer. Throws KmsFault. */
  async function call (
    operation: 'encrypt' | 'decrypt', keyId: string, input: object, output: string, signal: AbortSignal
  ): Promise<string> {
    const path = `${mount}/${operation}/${key}`
    const context = Buffer.from(JSON.stringify(encryptionContext(keyId))).toString('base64')
    const body = JSON.stringify({ ...input, associated_data: context })
    try {
      // To follow a redirect would show the token to another server.
      const reply = await fetch(`${base}/${path}`, { method: 'POST', headers, body, redirect: 'manual', signal })
      if (reply.status !== 200) throw explain(reply.status, operation, path)
      const bytes = await readBody(reply, MAX_BODY_BYTES, signal)
      const answer: { data: Record<string, unknown> } = JSON.parse(String(bytes))
      const value = answer.data[output]
      if (typeof value === 'string') return value
    } catch (err) {
      if (err instanceof KmsFault) throw err
      const reason = whyNoAnswer(err)
      if (reason !== undefined) {
        throw new KmsFault(`OpenBao or Vault cannot be reached (${reason}). ` +
          'See that it runs and that the network leads there, or correct TRANSIT_ADDR.', { mayPass: true })
      }
    }
    throw new KmsFault('TRANSIT_ADDR answers, but not as Transit does. Set it to the URL of OpenBao or Vault.')
  }

  return {
    async wrap ({ id, key }, signal) {
      return await call('encrypt', id, { plaintext: key.toString('base64') }, 'ciphertext', signal)
    },

    async unwrap ({ id, ciphertext }, signal) {
      return Buffer.from(await call('decrypt', id, { ciphertext }, 'plaintext', signal), 'base64')
    }
  }
}

/** Source of the statuses: openbao.org/api-docs, "HTTP status codes" */
function explain (status: number, operation: 'encrypt' | 'decrypt', path: string): KmsFault {
  switch (status) {
    case 400:
      return new KmsFault(operation === 'encrypt'
        ? 'Transit does not encrypt with TRANSIT_KEY. Name a key of the type aes256-gcm96, not derived, that exists.'
        : 'The entry is for another key id, service or TRANSIT_KEY, or was changed. ' +
          'Restore it in ENCRYPTION_KEYS as keys:new printed it, or correct TRANSIT_KEY.')
    case 403:
      return new KmsFault(`OpenBao or Vault refuses TRANSIT_TOKEN. Renew it, and let its policy update ${path}.`)
    case 404:
      return new KmsFault('There is no Transit engine. Correct TRANSIT_MOUNT, or TRANSIT_ADDR.')
    case 503:
      return new KmsFault('OpenBao or Vault is sealed or in maintenance. Unseal it.', { mayPass: true })
    default:
      if (status >= 500 || status === 429) {
        return new KmsFault(`OpenBao or Vault fails at present (HTTP ${status}). See its log.`, { mayPass: true })
      }
      return new KmsFault(`TRANSIT_ADDR does not answer as Transit does (HTTP ${status}). ` +
        'Set it to the URL of OpenBao or Vault; behind a redirect, to that of the active node.')
  }
}
