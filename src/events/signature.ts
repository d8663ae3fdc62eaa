import { createHmac } from 'node:crypto'

/**
 * Returns the function that creates the signature headers of a delivery: those of Standard Webhooks, and
 * `x-signature-256`, which signs the body alone with the first secret.
 * Source: github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md.
 *
 * @param secrets the setting EVENTS_WEBHOOK_SECRET: one secret, or two separated by a comma
 */
export function createSigner (secrets: string) {
  const keys = secrets.split(',').map(keyOf)
  const firstKey = keyOf(secrets.replace(/,.*/s, ''))

  /** @param timestamp when the attempt begins, in Unix seconds */
  return function sign ({ id, body }: { id: string, body: string }, timestamp: number) {
    const content = `${id}.${timestamp}.${body}`
    return {
      'webhook-id': id,
      'webhook-timestamp': String(timestamp),
      'webhook-signature': keys.map((key) => `v1,${hmac(key, content).toString('base64')}`).join(' '),
      'x-signature-256': `sha256=${hmac(firstKey, body).toString('hex')}`
    }
  }
}

const PREFIX = 'whsec_'

/** The key of a secret: after `whsec_` its base64, otherwise its bytes. */
function keyOf (secret: string): Buffer {
  const text = secret.trim()
  return text.startsWith(PREFIX) ? Buffer.from(text.slice(PREFIX.length), 'base64') : Buffer.from(text)
}

const hmac = (key: Buffer, content: string) => createHmac('sha256', key).update(content).digest()
