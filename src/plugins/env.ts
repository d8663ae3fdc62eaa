import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import { unescape } from 'node:querystring'
import { parseEnv } from 'node:util'
import fastifyEnv from '@fastify/env'
import { Type, type Static, type TProperties } from '@sinclair/typebox'
import type { Ajv, ErrorObject } from 'ajv'
import Fastify, { type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { ensureDataDir, keptSecret } from '../data-dir.js'
import { parseKeyRing } from '../key-ring.js'
import { isLoopback } from '../loopback.js'

/** Where the values come from: the process environment, or an object in its place. */
export type EnvSource = Record<string, string | number | boolean | undefined>

/** Every setting there is; the description says what a usable value is. */
const settings = {
  NODE_ENV: Type.String({ default: 'development', description: 'production turns local mode off' }),
  HOST: Type.Optional(Type.String({ description: 'address to listen on' })),
  PORT: Type.Integer({ default: 8002, minimum: 0, maximum: 65535, description: 'port to listen on, 0 to 65535' }),
  LOG_LEVEL: Type.Union(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'].map((level) => Type.Literal(level)), { default: 'info', description: 'one of fatal, error, warn, info, debug, trace, silent' }),
  TRUST_PROXY: Type.String({ default: 'false', format: 'trust-proxy', description: 'true, false, a number of hops, or addresses and CIDR ranges separated by commas' }),

  DATABASE_URL: Type.Optional(Type.String({ format: 'database-url', description: 'postgres://user:password@host:5432/database (in production a remote one needs a password that cannot be guessed), or the word embedded' })),
  DATABASE_DIRECT_URL: Type.Optional(Type.String({ format: 'direct-url', description: 'postgres://… of the same database without a pooler in between; as DATABASE_URL otherwise' })),
  MIGRATE_ON_START: Type.Boolean({ default: false, description: 'true or false' }),
  DATABASE_POOL_MAX: Type.Integer({ default: 10, minimum: 1, description: 'connections, at least 1' }),
  DATA_DIR: Type.String({ default: '.data', description: 'a directory for the embedded database and the generated secrets' }),

  JWT_SECRET: Type.Optional(Type.String({ format: 'bytes-32', description: 'at least 32 bytes: openssl rand -base64 48' })),
  JWT_TENANT_CLAIM: Type.String({ default: 'tenant_id', description: 'name of the claim that holds the tenant id' }),
  JWT_ROLE_CLAIM: Type.String({ default: 'role', description: 'name of the claim that holds the role or roles' }),
  JWT_ADMIN_ROLE: Type.String({ default: 'admin', description: 'the role that opens the admin routes' }),
  JWT_ISSUER: Type.Optional(Type.String({ description: 'the only accepted iss' })),
  JWT_AUDIENCE: Type.Optional(Type.String({ description: 'the only accepted aud' })),

  ENCRYPTION_KEYS: Type.Optional(Type.String({ format: 'key-ring', description: 'k2:<base64 of 32 bytes>,k1:<…>, each id and key once: openssl rand -base64 32' })),

  WHATSAPP_PHONE_ID: Type.Optional(Type.String({ description: 'fallback phone number id' })),
  WHATSAPP_TOKEN: Type.Optional(Type.String({ description: 'fallback access token' })),
  WHATSAPP_WABA_ID: Type.Optional(Type.String({ description: 'fallback WhatsApp Business Account id' })),
  VERIFY_TOKEN: Type.Optional(Type.String({ description: 'fallback webhook verify token' })),
  CALLBACK_URL: Type.Optional(Type.String({ description: 'fallback webhook URL' })),
  REDIRECT_URL: Type.Optional(Type.String({ description: 'fallback OAuth redirect URL' })),
  FB_APP_ID: Type.Optional(Type.String({ description: 'the Meta app; set FB_APP_SECRET too' })),
  FB_APP_SECRET: Type.Optional(Type.String({ description: 'the secret of the Meta app; set FB_APP_ID too' })),
  CONFIG_FALLBACK: Type.Union([Type.Literal('missing-or-inactive'), Type.Literal('missing'), Type.Literal('none')], { default: 'missing-or-inactive', description: 'missing-or-inactive, missing or none' }),

  OAUTH_STATE: Type.Union([Type.Literal('optional'), Type.Literal('required')], { default: 'optional', description: 'optional or required' }),
  OAUTH_REDIRECT_URIS: Type.Optional(Type.String({ format: 'web-urls', description: 'absolute https URLs separated by commas (http only for this machine)' })),
  FB_LOGIN_CONFIG_ID: Type.Optional(Type.String({ description: 'configuration of Facebook Login for Business' })),

  GRAPH_API_BASE_URL: Type.String({ default: 'https://graph.facebook.com', format: 'graph-url', description: 'https://host without path or query; http only on loopback' }),
  GRAPH_API_VERSION: Type.String({ default: 'v26.0', pattern: '^v\\d+\\.\\d+$', description: 'v<major>.<minor>, such as v26.0' }),
  GRAPH_TIMEOUT_MS: Type.Integer({ default: 10000, minimum: 1, maximum: 300000, description: 'milliseconds, 1 to 300000' }),

  TOKEN_CHECK_INTERVAL_MS: Type.Integer({ default: 86400000, minimum: 1, maximum: 31536000000, description: 'milliseconds, 1 to 31536000000 (a year)' }),
  EVENTS_WEBHOOK_URL: Type.Optional(Type.String({ format: 'web-url', description: 'an absolute https URL (http only for this machine); set EVENTS_WEBHOOK_SECRET too' })),
  EVENTS_WEBHOOK_SECRET: Type.Optional(Type.String({ description: 'what signs the events sent to EVENTS_WEBHOOK_URL' })),
  WEBHOOK_VERIFY_TOKEN: Type.Optional(Type.String({ description: 'what Meta shows to have the webhook for account updates verified' })),
  FB_APP_SECRETS_PREVIOUS: Type.Optional(Type.String({ description: 'former secrets of the Meta app, separated by commas, which its webhooks may still be signed with' })),

  CONFIG_CACHE_MAX: Type.Integer({ default: 100000, minimum: 1, maximum: 10000000, description: 'entries, 1 to 10000000' }),
  CONFIG_CACHE_TTL_MS: Type.Integer({ default: 300000, minimum: 1, description: 'milliseconds, at least 1' }),
  CONFIG_CACHE_BLIND_TTL_MS: Type.Integer({ default: 1000, minimum: 0, maximum: 60000, description: 'milliseconds, 0 to 60000' }),
  CONFIG_STALE_IF_ERROR_MS: Type.Integer({ default: 300000, minimum: 0, description: 'milliseconds, 0 turns it off' })
} satisfies TProperties

/** The names of all settings, in the order of `.env.example`. */
export const settingNames = Object.keys(settings)

const schema = Type.Object(settings, {
  dependencies: { FB_APP_ID: ['FB_APP_SECRET'], FB_APP_SECRET: ['FB_APP_ID'], EVENTS_WEBHOOK_URL: ['EVENTS_WEBHOOK_SECRET'] },
  if: { properties: { NODE_ENV: { const: 'production' } }, required: ['NODE_ENV'] },
  then: {
    required: ['DATABASE_URL', 'JWT_SECRET', 'ENCRYPTION_KEYS'],
    properties: Object.fromEntries(['DATABASE_URL', 'DATABASE_DIRECT_URL'].map((name) => [name, { type: 'string', format: 'unguessable-database-url' }]))
  }
})

/** The settings after validation. `JWT_SECRET` and `ENCRYPTION_KEYS` are always there: given, or generated in local mode. */
export type Env = Static<typeof schema> & { JWT_SECRET: string, ENCRYPTION_KEYS: string }

declare module 'fastify' {
  interface FastifyInstance { env: Env }
}

const formats: Record<string, (value: string) => boolean> = {
  'bytes-32': (value) => Buffer.byteLength(value) >= 32,
  'key-ring': (value) => succeeds(() => parseKeyRing(value)),
  'trust-proxy': (value) => /^(true|false|\d{1,3})$/.test(value) || value.split(',').every(isAddressRange),
  'database-url': (value) => value === 'embedded' || isPostgresUrl(value),
  'direct-url': isPostgresUrl,
  'unguessable-database-url': (value) => value === 'embedded' || !URL.canParse(value) || !isGuessable(new URL(value)),
  'graph-url': isGraphUrl,
  'web-url': isWebUrl,
  'web-urls': (value) => value.split(',').every((url) => isWebUrl(url.trim()))
}

/** Reads and checks all settings and decorates `fastify.env`. Throws one error that names every fault and prints no value. */
async function env (fastify: FastifyInstance, options: { env?: EnvSource | undefined }): Promise<void> {
  const data = filled(options.env ?? await environment())
  if (data['NODE_ENV'] !== 'production') {
    const dataDir = String(data['DATA_DIR'] ?? settings.DATA_DIR.default)
    data['JWT_SECRET'] ??= await generated(dataDir, 'jwt-secret', () => randomBytes(48).toString('base64'))
    data['ENCRYPTION_KEYS'] ??= await generated(dataDir, 'encryption-keys', () => `local:${randomBytes(32).toString('base64')}`)
  }
  try {
    await fastify.register(fastifyEnv, { confKey: 'env', schema, data, env: false, ajv: { customOptions: withFormats } })
  } catch (err) {
    // Anything else, such as a server that has an `env` of its own, speaks for itself.
    throw err instanceof Error && 'errors' in err && Array.isArray(err.errors) ? new Error(faults(err.errors)) : err
  }
}

const envPlugin = fp(env, { name: 'env' })
export default envPlugin

/**
 * Reads and checks the settings for code that needs them before there is a server (its logger, its proxies) or without one.
 * Takes values in place of the process environment and `.env`; throws like the plugin.
 */
export async function readEnv (source?: EnvSource): Promise<Env> {
  // As in `buildApp`: whoever waits here has a limit of their own.
  const bare = Fastify({ pluginTimeout: 0 })
  await bare.register(envPlugin, { env: source })
  await bare.close()
  return bare.env
}

/** What is set: in `.env` in the working directory, if there is one, and over it in the process environment. */
export async function environment (): Promise<EnvSource> {
  return { ...await dotEnv(), ...filled(process.env) }
}

async function dotEnv (): Promise<EnvSource> {
  try {
    return { ...parseEnv(await readFile('.env', 'utf8')) }
  } catch (err) {
    if (err instanceof Error && 'code' in err && err.code === 'ENOENT') return {}
    throw err
  }
}

/** Leaves out what is unset or empty: `NAME=` in a `.env` means "not set". */
function filled (source: EnvSource): EnvSource {
  return Object.fromEntries(Object.entries(source).filter(([, value]) => value !== undefined && value !== ''))
}

async function generated (dataDir: string, name: string, make: () => string): Promise<string> {
  return await keptSecret(await ensureDataDir(dataDir), name, make)
}

function withFormats (ajv: Ajv): Ajv {
  for (const [name, check] of Object.entries(formats)) ajv.addFormat(name, check)
  return ajv
}

/** One message for all faults, a line each, made of names and descriptions only. */
function faults (errors: ErrorObject[]): string {
  const described: Record<string, { description?: string }> = settings
  const lines = errors.filter(({ keyword }) => keyword !== 'if').map((fault) => {
    const missing: unknown = fault.params['missingProperty']
    const name = typeof missing === 'string' ? missing : fault.instancePath.slice(1)
    return `  ${name} ${missing === undefined ? 'is not usable' : 'is missing'}: ${described[name]?.description}`
  })
  return ['Some settings cannot be used:', ...new Set(lines)].join('\n')
}

function succeeds (attempt: () => unknown): boolean {
  try {
    attempt()
    return true
  } catch {
    return false
  }
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
