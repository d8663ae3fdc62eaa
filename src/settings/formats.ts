import { isIP } from 'node:net'
import { databaseUrlFault, parseDatabaseUrl } from './database-url.js'
import { parseRingEntries } from './key-ring.js'
import { isLoopback, isLoopbackHost } from './loopback.js'

/** Characters; shorter secrets could be guessed, and they alone authenticate a sender. */
export const MIN_SECRET_LENGTH = 16

/** The formats that the schema of the settings names. */
export const formats: Record<string, (value: string) => boolean> = {
  unquoted: (value) => !/^(['"`]).*\1$|^[“”„‘’‚].*[“”‘’]$/s.test(value),
  // U+FFFD replaces bytes that were not UTF-8.
  'secret-text': (value) => !/[\p{Cc}\uFFFD]/u.test(value),
  'no-pem': (value) => !value.includes('-----BEGIN'),
  'bytes-32': (value) => Buffer.byteLength(value) >= 32,
  // RFC 6901, section 3. A name may hold a tilde.
  claim: (value) => !value.startsWith('/') || !/~(?![01])/.test(value),
  list: (value) => value.split(',').every((part) => part.trim() !== ''),
  'former-secrets': (value) => value.split(',').map((secret) => secret.trim()).every(isFormerSecret),
  'event-secrets': areEventSecrets,
  'audit-stream': (value) => value === 'stdout' || isWebUrl(value),
  'key-ring': (value) => succeeds(() => parseRingEntries(value)),
  'trust-proxy': (value) => /^(true|false|\d{1,3})$/.test(value) || value.split(',').every(isAddressRange),
  'database-url': (value) => value === 'embedded' || isDatabaseUrl(value),
  'direct-url': isDatabaseUrl,
  'unguessable-database-url': (value) => value === 'embedded' || !isDatabaseUrl(value) || !isGuessable(value),
  'graph-url': isGraphUrl,
  'web-url': isWebUrl,
  'web-origins': (value) => value.split(',').every((url) => isWebOrigin(url.trim())),
  'proxy-url': isProxyUrl,
  'web-urls': (value) => value.split(',').every((url) => isWebUrl(url.trim()))
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
  // account-updates.ts skips the empty part beside a surplus comma.
  return secret === '' || secret.length >= MIN_SECRET_LENGTH
}

/** One or two secrets. Source of the length after `whsec_`: standardwebhooks.com, "Signature scheme". */
function areEventSecrets (value: string): boolean {
  const secrets = value.split(',').map((secret) => secret.trim())
  return secrets.length <= 2 && secrets.every((secret) => {
    if (!secret.startsWith('whsec_')) return secret.length >= MIN_SECRET_LENGTH
    const base64 = secret.slice('whsec_'.length)
    const { length } = Buffer.from(base64, 'base64')
    return /^[A-Za-z0-9+/]+={0,2}$/.test(base64) && length >= 24 && length <= 64
  })
}

function isAddressRange (value: string): boolean {
  const [address = '', prefix] = value.trim().split('/')
  const version = isIP(address)
  const maxPrefix = version === 4 ? 32 : 128
  return version !== 0 && (prefix === undefined || (/^[1-9]\d{0,2}$/.test(prefix) && Number(prefix) <= maxPrefix))
}

function isDatabaseUrl (value: string): boolean {
  return databaseUrlFault(value) === undefined
}

/** Whether somebody on the network could log in with a guess. The process environment may set the password. */
function isGuessable (url: string): boolean {
  const { host, user = '', password = '', ssl } = parseDatabaseUrl(url)
  const hasCertificate = typeof ssl === 'object' && ssl.cert !== undefined
  if (host.startsWith('/') || isLoopbackHost(host) || hasCertificate) return false
  const guesses = ['', user.toLowerCase(), 'postgres', 'password', 'changeme', 'secret', 'admin']
  return guesses.includes(password.toLowerCase())
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

/** Whether a text is an origin as browsers send it: no path, not even a slash. */
function isWebOrigin (value: string): boolean {
  return isWebUrl(value) && new URL(value).origin === value
}

function isProxyUrl (value: string): boolean {
  return URL.canParse(value) && ['http:', 'https:'].includes(new URL(value).protocol)
}
