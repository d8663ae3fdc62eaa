import { randomBytes } from 'node:crypto'
import type { EnvSource } from '../../src/app.js'
import { newKey } from '../without-database.js'

const key = newKey()
/** The base64 of a ciphertext. */
const wrapped = randomBytes(60).toString('base64')

/** The required settings. */
export const secrets = { JWT_SECRET: 's'.repeat(32), ENCRYPTION_KEYS: `k1:${key}` }
export const production = { ...secrets, NODE_ENV: 'production', DATABASE_URL: 'embedded' }

/** Values that are returned unchanged. */
export const usable: EnvSource = {
  NODE_ENV: 'production',
  HOST: '::1',
  PORT: 65535,
  LOG_LEVEL: 'silent',
  TRUST_PROXY: 'true',
  PUBLIC_URL: 'https://service.example/whatsapp',
  API_DOCS: false,
  SHUTDOWN_DELAY_MS: 300000,
  CORS_ORIGINS: 'https://a.example, https://b.example:8443,http://localhost:3000',
  RATE_LIMIT_TENANT_PER_MINUTE: 0,
  RATE_LIMIT_META_PER_MINUTE: 10000000,
  RATE_LIMIT_KEY_PER_MINUTE: 0,
  RATE_LIMIT_ADDRESS_PER_MINUTE: 1,
  METRICS_PORT: 9464,
  METRICS_HOST: '0.0.0.0',
  HTTPS_PROXY: 'http://u:p@proxy.example:3128',
  NO_PROXY: 'localhost,.internal.example',
  DATABASE_URL: 'postgresql://u:p@db.example:5432/x?sslmode=require',
  DATABASE_DIRECT_URL: 'postgres://u:p@direct.example:5433/x',
  DATABASE_PREPARED: false,
  DATABASE_START_TIMEOUT_MS: 0,
  MIGRATE_ON_START: true,
  DATABASE_POOL_MAX: 1,
  DATABASE_ROLE_PREFIX: 'a',
  DATABASE_WALL: 'if-possible',
  DATA_DIR: '/somewhere',
  JWT_SECRET: 'é'.repeat(16),
  JWT_JWKS_URL: 'https://idp.example/.well-known/jwks.json',
  JWT_TENANT_CLAIM: 'https://claims.example/tenant',
  JWT_ROLE_CLAIM: '/realm_access/roles',
  JWT_ADMIN_ROLE: 'a',
  JWT_AUDITOR_ROLE: 'b',
  JWT_ISSUER: 'https://idp.example/, https://other.example',
  JWT_AUDIENCE: 'a',
  JWT_AUDIENCE_CLAIM: 'azp',
  JWT_CLOCK_TOLERANCE_S: 0,
  FULL_CONFIG_ACCESS: 'scope',
  FULL_CONFIG_SCOPE: 'https://api.example/secrets.read',
  ENCRYPTION_KEYS: `k2:${newKey()},k1:${key}`,
  AWS_KMS_KEY_ID: 'alias/whatsapp',
  TRANSIT_ADDR: 'https://vault.example:8200',
  TRANSIT_TOKEN: 'hvs.t',
  TRANSIT_MOUNT: 'team-a/transit.eu',
  TRANSIT_KEY: 'w',
  WHATSAPP_PHONE_ID: '1',
  WHATSAPP_TOKEN: 't',
  WHATSAPP_WABA_ID: '2',
  VERIFY_TOKEN: 'v',
  CALLBACK_URL: 'https://c.example',
  REDIRECT_URL: 'https://r.example',
  VERSION_RETENTION_DAYS: 0,
  VERSION_MAX: 1,
  FB_APP_ID: '3',
  FB_APP_SECRET: 's',
  CONFIG_FALLBACK: 'none',
  OAUTH_STATE: 'required',
  OAUTH_REDIRECT_URIS: 'https://a.example/cb, http://localhost:3000/cb',
  FB_LOGIN_CONFIG_ID: '4',
  GRAPH_API_BASE_URL: 'http://127.0.0.1:1234',
  GRAPH_API_VERSION: 'v1.0',
  GRAPH_TIMEOUT_MS: 300000,
  TOKEN_CHECK_INTERVAL_MS: 1,
  TOKEN_CHECK_CONCURRENCY: 1,
  EVENTS_WEBHOOK_URL: 'http://127.0.0.1:1/events',
  EVENTS_WEBHOOK_SECRET: 'e'.repeat(16),
  EVENTS_ALLOW_PRIVATE: true,
  WEBHOOK_VERIFY_TOKEN: 'w'.repeat(16),
  FB_APP_SECRETS_PREVIOUS: `${'p'.repeat(16)}, ${'q'.repeat(16)},`,
  AUDIT_STREAM: 'https://siem.example/collect?source=wtc',
  AUDIT_STREAM_SECRET: 'a'.repeat(16),
  AUDIT_RETENTION_DAYS: 36500,
  CONFIG_CACHE_MAX: 1,
  CONFIG_CACHE_TTL_MS: 1,
  CONFIG_CACHE_BLIND_TTL_MS: 0,
  CONFIG_STALE_IF_ERROR_MS: 0,
  CONFIG_REFUSE_DEAD_TOKENS: true
}

/** Further usable values of some settings. */
export const alsoUsable: Record<string, string[]> = {
  NODE_ENV: ['development', 'test'],
  LOG_LEVEL: ['fatal', 'error', 'warn', 'info', 'debug', 'trace'],
  TRUST_PROXY: ['false', '0', '3', '12', '127.0.0.1', '10.0.0.0/8, ::1,fc00::/7', '0.0.0.0/1', '::/128'],
  DATABASE_URL: [
    'embedded', 'postgres://localhost/x', 'postgres:///x?host=/var/run/postgresql', 'postgres://u:100%@db.example/x',
    'postgres://ü:é%@db.example/%c3%a4'
  ],
  DATABASE_DIRECT_URL: [
    'postgres://localhost/x', 'postgresql:///x?host=/run/postgresql', 'postgres://u:100%@db.example/x'
  ],
  JWT_JWKS_URL: ['http://127.0.0.1:1/jwks', 'http://localhost/jwks'],
  JWT_TENANT_CLAIM: ['custom:tenant', 'a~2', '/', '/a~0b/c~1d/0', '/~01'],
  JWT_AUDIENCE_CLAIM: ['/o/azp'],
  JWT_ISSUER: ['i', 'i,j'],
  FULL_CONFIG_ACCESS: ['tenant', 'off'],
  FULL_CONFIG_SCOPE: ['!', '#[]~'],
  HTTPS_PROXY: ['https://proxy.example'],
  ENCRYPTION_KEYS: [
    `k3:aws-kms:${wrapped},k2:transit:vault:v1:${wrapped},k1:${key}`, `k1:transit:vault:v12:${wrapped}==`
  ],
  TRANSIT_ADDR: ['http://127.0.0.1:8200', 'https://gateway.example/vault/'],
  TRANSIT_MOUNT: ['a', 'a/b/c'],
  TRANSIT_KEY: ['a.b-c_D9'],
  VERSION_RETENTION_DAYS: ['3650'],
  VERSION_MAX: ['1000'],
  CONFIG_FALLBACK: ['missing'],
  GRAPH_API_BASE_URL: [
    'https://proxy.example:8443', 'https://graph.facebook.com/', 'http://localhost', 'http://[::1]:1'
  ],
  TOKEN_CHECK_INTERVAL_MS: ['31536000000'],
  TOKEN_CHECK_CONCURRENCY: ['1000'],
  EVENTS_WEBHOOK_SECRET: [
    `whsec_${'A'.repeat(32)}`, `whsec_${'A'.repeat(32)}, ${'e'.repeat(16)}`, `${'e'.repeat(16)},${'f'.repeat(16)}`
  ],
  AUDIT_STREAM: ['stdout'],
  AUDIT_STREAM_SECRET: [`whsec_${'A'.repeat(32)}`],
  CONFIG_CACHE_BLIND_TTL_MS: ['60000'],
  CONFIG_STALE_IF_ERROR_MS: ['31536000000']
}

/** A random part of a value, which no message may print. */
export const canary = () => `canary${randomBytes(6).toString('hex')}`
/** A random integer of at least 1,000,000, which no message may print. */
const number = () => String(randomBytes(6).readUIntBE(0, 6) + 1e6)

/** Values that are refused, by setting. */
export const unusable: Record<string, string[]> = {
  NODE_ENV: [canary(), 'prod', 'Production', 'PRODUCTION', 'staging', 'production,test'],
  PORT: [number(), `-${number()}`, `${number()}.5`, canary(), 'NaN'],
  LOG_LEVEL: [canary(), 'INFO'],
  TRUST_PROXY: [
    canary(), `127.0.0.1,${canary()}`, `10.0.0.0/${number()}`, '10.0.0.0/33', '0.0.0.0/0', '::/0', '::/129',
    '10.0.0.0/x', '10.0.0.0/x8', '10.0.0.0/8x', '10.0.0.0/', '1000', ','
  ],
  DATABASE_URL: [
    canary(), `mysql://u:${canary()}@localhost/x`, `mysql://${canary()}/x?y=postgres://`, `postgres:${canary()}`,
    `postgres://u:${canary()}@local host/x`, `postgres://u:${canary()}%ff@localhost/x`,
    `postgres://u:é%${canary()}@localhost/%c3`, 'EMBEDDED'
  ],
  DATABASE_DIRECT_URL: [
    canary(), `mysql://u:${canary()}@localhost/x`, `postgres:${canary()}`, `postgres://u:${canary()}@local host/x`,
    `postgres://u:${canary()}%ff@localhost/x`, 'embedded'
  ],
  PUBLIC_URL: [canary(), `http://${canary()}.example`, `https://u:${canary()}@a.example`],
  API_DOCS: [canary(), 'off'],
  SHUTDOWN_DELAY_MS: ['-1', '300001', number(), canary()],
  CORS_ORIGINS: [
    canary(), '*', `https://a.example,${canary()}`, 'https://a.example/', `https://a.example/${canary()}`,
    `http://${canary()}.example`, 'https://A.example', 'https://a.example:443', 'null'
  ],
  RATE_LIMIT_TENANT_PER_MINUTE: ['-1', '10000001', `-${number()}`, canary()],
  RATE_LIMIT_META_PER_MINUTE: ['-1', '10000001', `${number()}.5`, canary()],
  RATE_LIMIT_KEY_PER_MINUTE: ['-1', '10000001', `-${number()}`, canary()],
  RATE_LIMIT_ADDRESS_PER_MINUTE: ['-1', '10000001', canary()],
  METRICS_PORT: [number(), '-1', '65536', canary()],
  HTTPS_PROXY: [canary(), `socks5://u:${canary()}@proxy.example`, `proxy.example:${number()}`],
  DATABASE_PREPARED: [canary(), 'off'],
  DATABASE_START_TIMEOUT_MS: ['-1', '600001', number(), canary()],
  JWT_JWKS_URL: [canary(), `http://${canary()}.example`, `https://u:${canary()}@idp.example`],
  JWT_TENANT_CLAIM: [`/${canary()}~`, `/~2${canary()}`, `/a/~${canary()}`, '/~', '/a~/b'],
  JWT_ROLE_CLAIM: [`/${canary()}~`, '/~x'],
  JWT_AUDIENCE_CLAIM: [`/${canary()}~`, '/~ 0'],
  JWT_ISSUER: [',', `${canary()},`, `,${canary()}`, `${canary()}, ,${canary()}`],
  JWT_AUDIENCE: [',', `${canary()},`],
  JWT_CLOCK_TOLERANCE_S: ['-1', '301', number(), canary()],
  FULL_CONFIG_ACCESS: [canary(), 'Scope', 'true', 'none'],
  FULL_CONFIG_SCOPE: [`a ${canary()}`, `a\t${canary()}`, `a"${canary()}`, `\\${canary()}`, `é${canary()}`],
  MIGRATE_ON_START: [canary(), 'yes', '2'],
  DATABASE_ROLE_PREFIX: ['A', '1a', `a-${canary()}`, 'a'.repeat(57)],
  DATABASE_WALL: [canary(), 'Required', 'true'],
  DATABASE_POOL_MAX: ['0', `-${number()}`, `${number()}.5`, canary()],
  JWT_SECRET: [canary()],
  ENCRYPTION_KEYS: [
    canary(), `${canary()}:${key}!`, `k1:${key},k1:${newKey()}`, `k1:${key},k2:${key}`, `k1:${key},`,
    `k1:aws-kms:${key}`, `k1:transit:${wrapped}`, `k1:kms:${wrapped}`, `k1:${key},k1:aws-kms:${wrapped}`
  ],
  TRANSIT_ADDR: [canary(), `http://${canary()}.example`, `https://u:${canary()}@vault.example`],
  TRANSIT_TOKEN: [`${canary()} ${canary()}`, `${canary()}é`],
  TRANSIT_MOUNT: [`/${canary()}`, `${canary()}/`, `${canary()}/../sys`, `a//${canary()}`, '..', `${canary()}?`],
  TRANSIT_KEY: [`${canary()}/a`, `.${canary()}`, '..', `${canary()} `.repeat(2)],
  VERSION_RETENTION_DAYS: ['-1', '3651', '0.5', number(), canary()],
  VERSION_MAX: ['0', '1001', `-${number()}`, canary()],
  CONFIG_FALLBACK: [canary(), 'NONE'],
  OAUTH_STATE: [canary(), 'REQUIRED', 'true'],
  OAUTH_REDIRECT_URIS: [
    canary(), `https://a.example,${canary()}`, `https://a.example,http://${canary()}.example`,
    `https://${canary()}@a.example`, `https://:${canary()}@a.example`, 'ftp://localhost', 'https://a.example,'
  ],
  GRAPH_API_BASE_URL: [
    canary(), `http://${canary()}.example`, `https://u:${canary()}@host.example`, `https://host.example/${canary()}`,
    `https://host.example/?${canary()}`, 'ftp://localhost'
  ],
  GRAPH_API_VERSION: [canary(), '26.0', 'v26', 'v26.0/', `v26.0\n${canary()}`],
  GRAPH_TIMEOUT_MS: ['0', '300001', number(), canary()],
  TOKEN_CHECK_INTERVAL_MS: ['0', '31536000001', `-${number()}`, canary()],
  TOKEN_CHECK_CONCURRENCY: ['0', '1001', `-${number()}`, canary()],
  EVENTS_WEBHOOK_SECRET: [
    'e'.repeat(15), `whsec_${canary()}`, `whsec_${'A'.repeat(31)}`, `whsec_${'A'.repeat(88)}`,
    `${'e'.repeat(16)},${'f'.repeat(15)}`, `${'e'.repeat(16)},`, Array(3).fill('e'.repeat(16)).join()
  ],
  EVENTS_ALLOW_PRIVATE: [canary(), 'yes'],
  WEBHOOK_VERIFY_TOKEN: ['w'.repeat(15)],
  FB_APP_SECRETS_PREVIOUS: [`${'p'.repeat(16)},${'q'.repeat(15)}`, `${'p'.repeat(16)},   ${'q'.repeat(15)}`, 'p,q'],
  AUDIT_STREAM_SECRET: ['a'.repeat(15), `whsec_${canary()}`],
  AUDIT_RETENTION_DAYS: ['-1', '36501', '0.5', number(), canary()],
  CONFIG_CACHE_MAX: ['0', '10000001', `-${number()}`, canary()],
  CONFIG_CACHE_TTL_MS: ['0', `-${number()}`, canary()],
  CONFIG_CACHE_BLIND_TTL_MS: ['-1', '60001', '0.5', number(), canary()],
  CONFIG_STALE_IF_ERROR_MS: ['-1', `-${number()}`, `${number()}.5`, canary()],
  CONFIG_REFUSE_DEAD_TOKENS: [canary(), 'yes']
}
