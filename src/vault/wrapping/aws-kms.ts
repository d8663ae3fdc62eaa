import type { Env } from '../../settings/env.js'
import { waitFor } from '../../waiting/wait-for.js'
import { encryptionContext, KmsFault, whyNoAnswer, type Kms } from './kms.js'

const PACKAGE = '@aws-sdk/client-kms'

/** The parts of the SDK that are used. Its own types would be missing where optional packages are left out. */
interface Sdk {
  KMSClient: new () => {
    send: (command: object, options: { abortSignal: AbortSignal }) => Promise<{ [name in Output]?: unknown }>
    destroy: () => void
  }
  EncryptCommand: new (input: object) => object
  DecryptCommand: new (input: object) => object
}

type Output = 'CiphertextBlob' | 'Plaintext'

/** An error of the SDK. `$metadata` is there once there was an answer, or an attempt. */
interface SdkError { name?: string, message?: string, $metadata?: { httpStatusCode?: number } }

const credentials = 'AWS KMS does not accept the credentials. Renew them, and set the clock of this machine right.'
const disabled = 'The key of AWS_KMS_KEY_ID is disabled or about to be deleted. Enable it in AWS KMS.'
const unusable = 'AWS_KMS_KEY_ID names no symmetric key for encryption. Set it to the id, ARN or alias of one.'
const NO_CREDENTIALS = 'CredentialsProviderError'

/**
 * By the name of the error, or by its message where it has none.
 * Source: docs.aws.amazon.com/kms/latest/APIReference, "Decrypt", "Encrypt" and "Common errors"
 */
const faults = new Map(Object.entries({
  AccessDeniedException: 'AWS KMS denies the access. ' +
    'Allow kms:Decrypt with the key of AWS_KMS_KEY_ID, and kms:Encrypt for keys:new.',
  InvalidCiphertextException: 'The entry is for another key id or another service, or was changed. ' +
    'Restore it in ENCRYPTION_KEYS as keys:new printed it.',
  IncorrectKeyException: 'The entry was wrapped with another key of AWS KMS. Set AWS_KMS_KEY_ID to that one.',
  NotFoundException: 'AWS KMS has no such key. Correct AWS_KMS_KEY_ID, or AWS_REGION.',
  DisabledException: disabled,
  KMSInvalidStateException: disabled,
  InvalidKeyUsageException: unusable,
  ValidationException: unusable,
  UnrecognizedClientException: credentials,
  InvalidSignatureException: credentials,
  ExpiredTokenException: credentials,
  [NO_CREDENTIALS]: 'There are no AWS credentials. Give the machine a role, ' +
    'or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment.',
  'Region is missing': 'AWS_REGION is not set. Set it in the environment.'
}))

/**
 * Creates the access to AWS KMS. The SDK is loaded at the first call, and takes its configuration from the environment.
 *
 * @throws KmsFault without AWS_KMS_KEY_ID
 */
export function createAwsKms ({ AWS_KMS_KEY_ID: KeyId }: Pick<Env, 'AWS_KMS_KEY_ID'>): Kms {
  if (KeyId === undefined) {
    throw new KmsFault('AWS_KMS_KEY_ID is not set. Set it to the id, ARN or alias of a key of AWS KMS.')
  }
  // With KeyId, Decrypt refuses what was encrypted with another key, such as one of another account.
  return {
    async wrap ({ id, key }, signal) {
      const input = { KeyId, Plaintext: key, EncryptionContext: encryptionContext(id) }
      return (await call('EncryptCommand', input, 'CiphertextBlob', signal)).toString('base64')
    },

    async unwrap ({ id, ciphertext }, signal) {
      const blob = Buffer.from(ciphertext, 'base64')
      const input = { KeyId, CiphertextBlob: blob, EncryptionContext: encryptionContext(id) }
      return await call('DecryptCommand', input, 'Plaintext', signal)
    }
  }
}

/** Makes one call, and returns an output of it. Throws KmsFault. */
async function call (
  command: 'EncryptCommand' | 'DecryptCommand', input: object, output: Output, signal: AbortSignal
): Promise<Buffer> {
  const sdk: Sdk = await import(PACKAGE).catch(() => {
    throw new KmsFault(`The package ${PACKAGE} is not installed. ` +
      'Install with optional dependencies: npm ci --include=optional.')
  })
  const client = new sdk.KMSClient()
  try {
    const answer = client.send(new sdk[command](input), { abortSignal: signal })
    // The SDK itself heeds the signal only while it sends, not while it looks for credentials.
    const { [output]: bytes } = await waitFor(answer, [signal])
    if (bytes instanceof Uint8Array) return Buffer.from(bytes)
  } catch (err) {
    throw explain(err)
  } finally {
    client.destroy()
  }
  throw new KmsFault('AWS KMS answers without a key. Correct AWS_ENDPOINT_URL_KMS, or unset it.')
}

function explain (err: unknown): KmsFault {
  const { name = '', message = '', $metadata }: SdkError = Object(err)
  const known = faults.get(name) ?? faults.get(message)
  // The agent that lends a role may still be starting.
  if (known !== undefined) return new KmsFault(known, { mayPass: name === NO_CREDENTIALS })
  const status = $metadata?.httpStatusCode
  if (status !== undefined && (status >= 500 || /Throttl|LimitExceeded/.test(name))) {
    return new KmsFault(`AWS KMS fails at present (HTTP ${status}). Try again later.`, { mayPass: true })
  }
  // An answer may give its error any name and any code.
  const reason = status === undefined ? whyNoAnswer(err) : `HTTP ${status}`
  return new KmsFault(`AWS KMS cannot be called (${reason ?? name}). ` +
    'Correct AWS_REGION, AWS_ENDPOINT_URL_KMS and the like in the environment, and see that the network leads there.',
  { mayPass: status === undefined && reason !== undefined })
}
