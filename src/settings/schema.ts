import { Type, type StringOptions, type TProperties } from '@sinclair/typebox'
import { MIN_SECRET_LENGTH } from './formats.js'

/** A setting that holds a secret: `NAME_FILE` may set it, and it has no control characters. */
const secret = (options: StringOptions = {}) => Type.String({ writeOnly: true, ...options })

/** A limit of requests in a minute. */
const perMinute = (max: number) => Type.Integer({
  default: max, minimum: 0, maximum: 10000000, description: 'requests a minute, 0 turns the limit off'
})

/** A claim of a token. */
const claim = (name: string) => Type.String({
  default: name,
  format: 'claim',
  description: 'the name of a claim, or a JSON Pointer to it such as /app_metadata/tenant_id, ' +
    'where ~0 stands for ~ and ~1 for /'
})

/**
 * A name in a path of Transit; it ends with no dot, so it is never `..`.
 * Source: openbao/openbao, sdk/framework/path.go, GenericNameRegex
 */
const TRANSIT_NAME = '\\w([\\w.-]*\\w)?'

const logLevels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']

/** All settings. A description defines the usable values, unless every text is usable. */
export const settings = {
  NODE_ENV: Type.Union([Type.Literal('production'), Type.Literal('development'), Type.Literal('test')], {
    default: 'development',
    description: 'production, development or test'
  }),
  HOST: Type.Optional(Type.String()),
  PORT: Type.Integer({ default: 8002, minimum: 0, maximum: 65535, description: 'port to listen on, 0 to 65535' }),
  LOG_LEVEL: Type.Union(logLevels.map((level) => Type.Literal(level)), {
    default: 'info',
    description: `one of ${logLevels.join(', ')}`
  }),
  TRUST_PROXY: Type.String({
    default: 'false',
    format: 'trust-proxy',
    description: 'true, false, a number of hops, or addresses and CIDR ranges separated by commas'
  }),
  PUBLIC_URL: Type.Optional(Type.String({
    format: 'web-url',
    description: 'the absolute https URL that this service is reached at (http only for this machine)'
  })),
  API_DOCS: Type.Boolean({ default: true, description: 'true or false' }),
  SHUTDOWN_DELAY_MS: Type.Integer({
    default: 0, minimum: 0, maximum: 300000, description: 'milliseconds, 0 to 300000'
  }),
  CORS_ORIGINS: Type.Optional(Type.String({
    format: 'web-origins',
    description: 'https://host origins separated by commas, without path (http only for this machine)'
  })),
  RATE_LIMIT_TENANT_PER_MINUTE: perMinute(600),
  RATE_LIMIT_META_PER_MINUTE: perMinute(30),
  RATE_LIMIT_KEY_PER_MINUTE: perMinute(6000),
  RATE_LIMIT_ADDRESS_PER_MINUTE: perMinute(6000),
  METRICS_PORT: Type.Optional(Type.Integer({
    minimum: 0, maximum: 65535, description: 'port to serve /metrics on, 0 to 65535'
  })),
  METRICS_HOST: Type.String({ default: '127.0.0.1' }),
  HTTPS_PROXY: Type.Optional(secret({
    format: 'proxy-url',
    description: 'http://host:port or https://host:port, with user:password@ if the proxy wants it'
  })),
  NO_PROXY: Type.Optional(Type.String()),

  DATABASE_URL: Type.Optional(secret({
    format: 'database-url',
    description: 'postgres://user:password@host:5432/database ' +
      '(a remote one in production: a password that is hard to guess), or embedded'
  })),
  DATABASE_DIRECT_URL: Type.Optional(secret({
    format: 'direct-url',
    description: 'postgres://… of the same database without a pooler in between; as DATABASE_URL otherwise'
  })),
  DATABASE_PREPARED: Type.Boolean({ default: true, description: 'true or false' }),
  DATABASE_START_TIMEOUT_MS: Type.Integer({
    default: 30000, minimum: 0, maximum: 600000, description: 'milliseconds, 0 to 600000'
  }),
  MIGRATE_ON_START: Type.Boolean({ default: false, description: 'true or false' }),
  DATABASE_POOL_MAX: Type.Integer({ default: 10, minimum: 1, description: 'connections, at least 1' }),
  DATABASE_ROLE_PREFIX: Type.String({
    default: 'tenant_config',
    // PostgreSQL takes names of up to 63 bytes; the longest role adds 7.
    pattern: '^[a-z_][a-z0-9_]{0,55}$',
    description: '1 to 56 small letters, digits and underscores, not a digit first'
  }),
  DATABASE_WALL: Type.Optional(Type.Union([Type.Literal('required'), Type.Literal('if-possible')], {
    description: 'required (the default in production) or if-possible'
  })),
  DATA_DIR: Type.String({ default: '.data' }),

  JWT_SECRET: Type.Optional(secret({
    format: 'bytes-32',
    description: 'at least 32 bytes: openssl rand -base64 48; generated in local mode without JWT_JWKS_URL'
  })),
  JWT_JWKS_URL: Type.Optional(Type.String({
    format: 'web-url',
    description: 'the https URL of a JSON Web Key Set (http only for this machine)'
  })),
  JWT_TENANT_CLAIM: claim('tenant_id'),
  JWT_ROLE_CLAIM: claim('role'),
  JWT_ADMIN_ROLE: Type.String({ default: 'admin' }),
  JWT_AUDITOR_ROLE: Type.String({ default: 'auditor' }),
  JWT_ISSUER: Type.Optional(Type.String({
    format: 'list',
    description: 'the accepted values of iss, separated by commas; required in production with JWT_JWKS_URL'
  })),
  JWT_AUDIENCE: Type.Optional(Type.String({
    format: 'list',
    description: 'the accepted audiences, separated by commas; required in production with JWT_JWKS_URL'
  })),
  JWT_AUDIENCE_CLAIM: claim('aud'),
  JWT_CLOCK_TOLERANCE_S: Type.Integer({
    default: 30, minimum: 0, maximum: 300, description: 'seconds, 0 to 300'
  }),
  FULL_CONFIG_ACCESS: Type.Union([Type.Literal('tenant'), Type.Literal('scope'), Type.Literal('off')], {
    default: 'tenant',
    description: 'tenant, scope or off'
  }),
  FULL_CONFIG_SCOPE: Type.String({
    default: 'tenant-config:reveal',
    // RFC 6749, section 3.3.
    pattern: '^[!#-\\[\\]-~]+$',
    description: 'one scope: visible ASCII without blanks, double quotes and backslashes'
  }),

  ENCRYPTION_KEYS: secret({
    format: 'key-ring',
    description: 'k2:<base64 of 32 bytes>,k1:<…>, each id and key once: openssl rand -base64 32; ' +
      'or wrapped, as npm run keys:new -- --wrap prints it; generated in local mode'
  }),
  AWS_KMS_KEY_ID: Type.Optional(Type.String()),
  TRANSIT_ADDR: Type.Optional(Type.String({
    format: 'web-url',
    description: 'the https URL of OpenBao or Vault, such as https://vault.example:8200 (http only for this machine)'
  })),
  TRANSIT_TOKEN: Type.Optional(secret({
    pattern: '^[!-~]+$', description: 'a token of OpenBao or Vault, in visible ASCII without blanks'
  })),
  TRANSIT_MOUNT: Type.String({
    default: 'transit',
    pattern: `^${TRANSIT_NAME}(/${TRANSIT_NAME})*$`,
    description: 'the path of the Transit secrets engine: words separated by /'
  }),
  TRANSIT_KEY: Type.Optional(Type.String({
    pattern: `^${TRANSIT_NAME}$`, description: 'the name of a key of Transit: letters, digits, _, - and .'
  })),

  VERSION_RETENTION_DAYS: Type.Integer({
    default: 30, minimum: 0, maximum: 3650, description: 'days, 0 to 3650; 0 keeps none'
  }),
  VERSION_MAX: Type.Integer({
    default: 50, minimum: 1, maximum: 1000, description: 'versions of each tenant, 1 to 1000'
  }),

  WHATSAPP_PHONE_ID: Type.Optional(Type.String()),
  WHATSAPP_TOKEN: Type.Optional(secret()),
  WHATSAPP_WABA_ID: Type.Optional(Type.String()),
  VERIFY_TOKEN: Type.Optional(secret()),
  CALLBACK_URL: Type.Optional(Type.String()),
  REDIRECT_URL: Type.Optional(Type.String()),
  FB_APP_ID: Type.Optional(Type.String({ description: 'the Meta app; set FB_APP_SECRET too' })),
  FB_APP_SECRET: Type.Optional(secret({ description: 'the secret of the Meta app; set FB_APP_ID too' })),
  CONFIG_FALLBACK: Type.Union([Type.Literal('missing-or-inactive'), Type.Literal('missing'), Type.Literal('none')], {
    default: 'missing-or-inactive',
    description: 'missing-or-inactive, missing or none'
  }),

  OAUTH_STATE: Type.Union([Type.Literal('optional'), Type.Literal('required')], {
    default: 'optional',
    description: 'optional or required'
  }),
  OAUTH_REDIRECT_URIS: Type.Optional(Type.String({
    format: 'web-urls',
    description: 'absolute https URLs separated by commas (http only for this machine)'
  })),
  FB_LOGIN_CONFIG_ID: Type.Optional(Type.String()),

  GRAPH_API_BASE_URL: Type.String({
    default: 'https://graph.facebook.com',
    format: 'graph-url',
    description: 'https://host without path or query; http only on loopback'
  }),
  GRAPH_API_VERSION: Type.String({
    default: 'v26.0', pattern: '^v\\d+\\.\\d+$', description: 'v<major>.<minor>, such as v26.0'
  }),
  GRAPH_TIMEOUT_MS: Type.Integer({
    default: 10000, minimum: 1, maximum: 300000, description: 'milliseconds, 1 to 300000'
  }),

  TOKEN_CHECK_INTERVAL_MS: Type.Integer({
    default: 86400000, minimum: 1, maximum: 31536000000, description: 'milliseconds, 1 to 31536000000 (a year)'
  }),
  TOKEN_CHECK_CONCURRENCY: Type.Integer({
    default: 16, minimum: 1, maximum: 1000, description: 'checks at once, 1 to 1000'
  }),
  EVENTS_WEBHOOK_URL: Type.Optional(Type.String({
    format: 'web-url',
    description: 'an absolute https URL (http only for this machine); set EVENTS_WEBHOOK_SECRET too'
  })),
  EVENTS_WEBHOOK_SECRET: Type.Optional(secret({
    format: 'event-secrets',
    description: 'what signs the events sent to EVENTS_WEBHOOK_URL: whsec_ and the base64 of 24 to 64 bytes, or any ' +
      'text of at least 16 characters; two, separated by a comma, while the receiver changes its own'
  })),
  EVENTS_ALLOW_PRIVATE: Type.Boolean({ default: false, description: 'true or false' }),
  WEBHOOK_VERIFY_TOKEN: Type.Optional(secret({
    minLength: MIN_SECRET_LENGTH,
    description: 'what Meta shows to verify the webhook for account updates, ' +
      'at least 16 characters: openssl rand -hex 24'
  })),
  FB_APP_SECRETS_PREVIOUS: Type.Optional(secret({
    format: 'former-secrets',
    description: 'former secrets of the Meta app, separated by commas, each at least 16 characters'
  })),

  AUDIT_STREAM: Type.Optional(Type.String({
    format: 'audit-stream',
    description: 'stdout, or an absolute https URL (http only for this machine); with a URL set AUDIT_STREAM_SECRET too'
  })),
  AUDIT_STREAM_SECRET: Type.Optional(secret({
    format: 'event-secrets',
    description: 'what signs the records sent to AUDIT_STREAM; as EVENTS_WEBHOOK_SECRET otherwise'
  })),
  AUDIT_RETENTION_DAYS: Type.Integer({
    default: 0, minimum: 0, maximum: 36500, description: 'days, 0 to 36500; 0 keeps all records'
  }),

  CONFIG_CACHE_MAX: Type.Integer({
    default: 100000, minimum: 1, maximum: 10000000, description: 'entries, 1 to 10000000'
  }),
  CONFIG_CACHE_TTL_MS: Type.Integer({ default: 300000, minimum: 1, description: 'milliseconds, at least 1' }),
  CONFIG_CACHE_BLIND_TTL_MS: Type.Integer({
    default: 1000, minimum: 0, maximum: 60000, description: 'milliseconds, 0 to 60000'
  }),
  CONFIG_STALE_IF_ERROR_MS: Type.Integer({ default: 300000, minimum: 0, description: 'milliseconds, 0 turns it off' }),
  CONFIG_REFUSE_DEAD_TOKENS: Type.Boolean({ default: false, description: 'true or false' })
} satisfies TProperties
