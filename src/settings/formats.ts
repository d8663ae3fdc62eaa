import { isIP } from 'node:net'
import { unescape } from 'node:querystring'
import { parseKeyRing } from './key-ring.js'
import { isLoopback } from './loopback.js'

/** Characters; secrets that are the only check of who signs or asks must not be guessed. */
export const MIN_SECRET_LENGTH = 16

/** The formats that the schema of the settings names. */
export const formats: Record<string, (value: string) => boolean> = {
  unquoted: (value) => !/^(['"`]).*\1$|^[“”„‘’‚].*[“”‘’]$/s.test(value),
  // U+FFFD stands for bytes that were not UTF-8.
  'secret-text': (value) => !/[\p{Cc}\uFFFD]/u.test(value),
  'no-pem': (value) => !value.includes('-----BEGIN'),
  'bytes-32': (value) => Buffer.byteLength(value) >= 32,
  'former-secrets': (value) => value.split(',').map((secret) => secret.trim()).every(isFormerSecret),
  'key-ring': (value) => succeeds(() => parseKeyRing(value)),
  'trust-proxy': (value) => /^(true|false|\d{1,3})$/.test(value) || value.split(',').every(isAddressRange),
  'database-url': (value) => value === 'embedded' || isPostgresUrl(value),
  'direct-url': isPostgresUrl,
  'unguessable-database-url': (value) => value === 'embedded' || !URL.canParse(value) || !isGuessable(new URL(value)),
  'graph-url': isGraphUrl,
  'web-url': isWebUrl,
  'web-urls': (value) => value.split(',').every((url) => isWebUrl(url.trim()))
}

/** What a value of these formats must not have; the description of its setting would not say it. */
export const formatFaults: Record<string, string> = {
  unquoted: 'there are quotes around the value; leave them out',
  'no-pem': 'it is a PEM, and HS256 needs random text: openssl rand -base64 48',
  'secret-text': 'it holds a line break, another control character, or bytes that are not UTF-8'
}

function succeeds (attempt: () => unknown): boolean {
  try {
    attempt()
    return true
  } catch {
    return false
  }
}

function isFormerSecret (secret: string): boolean {
  // A comma too many is no secret: account-updates.ts leaves it out.
  return secret === '' || secret.length >= MIN_SECRET_LENGTH
}

function isAddressRange (value: string): boolean {
  const [address = '', prefix] = value.trim().split('/')
  const version = isIP(address)
  return version !== 0 && (prefix === undefined || (/^[1-9]\d{0,2}$/.test(prefix) && Number(prefix) <= (version === 4 ? 32 : 128)))
}

function isPostgresUrl (value: string): boolean {
  return /^postgres(ql)?:\/\//.test(value) && URL.canParse(value) && isUtf8(new URL(value))
}

/** Says whether pg can decode a URL. */
function isUtf8 (url: URL): boolean {
  // What is no UTF-8 becomes U+FFFD; a % that stands for itself stays.
  return !unescape(url.href).includes('\uFFFD')
}

function isGuessable (url: URL): boolean {
  // As pg reads it: what stands among the parameters wins; no host, or a path, is a socket of this machine. Unlike
  // decodeURIComponent, unescape does not throw at a % that stands for itself, which pg accepts too.
  const part = (name: string, inUrl: string) => (url.searchParams.get(name) ?? unescape(inUrl)).toLowerCase()
  const host = part('host', url.hostname)
  if (/^(\/|$)/.test(host) || isLoopback(host) || url.searchParams.has('sslcert')) return false
  return ['', part('user', url.username), 'postgres', 'password', 'changeme', 'secret', 'admin'].includes(part('password', url.password))
}

function isGraphUrl (value: string): boolean {
  if (!URL.canParse(value)) return false
  const url = new URL(value)
  const secure = url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback(url.hostname))
  return secure && url.href === `${url.origin}/`
}

function isWebUrl (value: string): boolean {
  if (!URL.canParse(value)) return false
  const { protocol, hostname, username, password } = new URL(value)
  return (protocol === 'https:' || (protocol === 'http:' && isLoopback(hostname))) && username === '' && password === ''
}
