import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import Fastify from 'fastify'
import t from '../run/tap.js'
import type { EnvSource } from '../../src/app.js'
import env, { readEnv, settingNames } from '../../src/settings/env.js'
import { complaints } from './refusal.js'
import { newKey } from '../without-database.js'

const key = newKey()
const secrets = { JWT_SECRET: 's'.repeat(32), ENCRYPTION_KEYS: `k1:${key}` }
const production = { ...secrets, NODE_ENV: 'production', DATABASE_URL: 'embedded' }
const defaults = {
  ...secrets,
  NODE_ENV: 'development',
  PORT: 8002,
  LOG_LEVEL: 'info',
  TRUST_PROXY: 'false',
  API_DOCS: true,
  MIGRATE_ON_START: false,
  DATABASE_POOL_MAX: 10,
  DATA_DIR: '.data',
  JWT_TENANT_CLAIM: 'tenant_id',
  JWT_ROLE_CLAIM: 'role',
  JWT_ADMIN_ROLE: 'admin',
  CONFIG_FALLBACK: 'missing-or-inactive',
  OAUTH_STATE: 'optional',
  GRAPH_API_BASE_URL: 'https://graph.facebook.com',
  GRAPH_API_VERSION: 'v26.0',
  GRAPH_TIMEOUT_MS: 10000,
  TOKEN_CHECK_INTERVAL_MS: 86400000,
  CONFIG_CACHE_MAX: 100000,
  CONFIG_CACHE_TTL_MS: 300000,
  CONFIG_CACHE_BLIND_TTL_MS: 1000,
  CONFIG_STALE_IF_ERROR_MS: 300000,
  CONFIG_REFUSE_DEAD_TOKENS: false
}

/** Values that are returned unchanged. */
const usable: EnvSource = {
  NODE_ENV: 'production',
  HOST: '::1',
  PORT: 65535,
  LOG_LEVEL: 'silent',
  TRUST_PROXY: 'true',
  API_DOCS: false,
  DATABASE_URL: 'postgresql://u:p@db.example:5432/x?sslmode=require',
  DATABASE_DIRECT_URL: 'postgres://u:p@direct.example:5433/x',
  MIGRATE_ON_START: true,
  DATABASE_POOL_MAX: 1,
  DATA_DIR: '/somewhere',
  JWT_SECRET: 'é'.repeat(16),
  JWT_TENANT_CLAIM: 'https://claims.example/tenant',
  JWT_ROLE_CLAIM: 'r',
  JWT_ADMIN_ROLE: 'a',
  JWT_ISSUER: 'i',
  JWT_AUDIENCE: 'a',
  ENCRYPTION_KEYS: `k2:${newKey()},k1:${key}`,
  WHATSAPP_PHONE_ID: '1',
  WHATSAPP_TOKEN: 't',
  WHATSAPP_WABA_ID: '2',
  VERIFY_TOKEN: 'v',
  CALLBACK_URL: 'https://c.example',
  REDIRECT_URL: 'https://r.example',
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
  EVENTS_WEBHOOK_URL: 'http://127.0.0.1:1/events',
  EVENTS_WEBHOOK_SECRET: 'e'.repeat(16),
  WEBHOOK_VERIFY_TOKEN: 'w'.repeat(16),
  FB_APP_SECRETS_PREVIOUS: `${'p'.repeat(16)}, ${'q'.repeat(16)},`,
  CONFIG_CACHE_MAX: 1,
  CONFIG_CACHE_TTL_MS: 1,
  CONFIG_CACHE_BLIND_TTL_MS: 0,
  CONFIG_STALE_IF_ERROR_MS: 0,
  CONFIG_REFUSE_DEAD_TOKENS: true
}

const alsoUsable: Record<string, string[]> = {
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
  CONFIG_FALLBACK: ['missing'],
  GRAPH_API_BASE_URL: [
    'https://proxy.example:8443', 'https://graph.facebook.com/', 'http://localhost', 'http://[::1]:1'
  ],
  TOKEN_CHECK_INTERVAL_MS: ['31536000000'],
  CONFIG_CACHE_BLIND_TTL_MS: ['60000'],
  CONFIG_STALE_IF_ERROR_MS: ['31536000000']
}

// No message may print the random parts.
const canary = () => `canary${randomBytes(6).toString('hex')}`
const number = () => String(randomBytes(6).readUIntBE(0, 6) + 1e6)
const unusable: Record<string, string[]> = {
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
  API_DOCS: [canary(), 'off'],
  MIGRATE_ON_START: [canary(), 'yes', '2'],
  DATABASE_POOL_MAX: ['0', `-${number()}`, `${number()}.5`, canary()],
  JWT_SECRET: [canary()],
  ENCRYPTION_KEYS: [canary(), `${canary()}:${key}!`, `k1:${key},k1:${newKey()}`, `k1:${key},k2:${key}`, `k1:${key},`],
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
  EVENTS_WEBHOOK_SECRET: ['e'.repeat(15)],
  WEBHOOK_VERIFY_TOKEN: ['w'.repeat(15)],
  FB_APP_SECRETS_PREVIOUS: [`${'p'.repeat(16)},${'q'.repeat(15)}`, `${'p'.repeat(16)},   ${'q'.repeat(15)}`, 'p,q'],
  CONFIG_CACHE_MAX: ['0', '10000001', `-${number()}`, canary()],
  CONFIG_CACHE_TTL_MS: ['0', `-${number()}`, canary()],
  CONFIG_CACHE_BLIND_TTL_MS: ['-1', '60001', '0.5', number(), canary()],
  CONFIG_STALE_IF_ERROR_MS: ['-1', `-${number()}`, `${number()}.5`, canary()],
  CONFIG_REFUSE_DEAD_TOKENS: [canary(), 'yes']
}

await t.test('usable values are returned, and defaults fill the rest', async (t) => {
  t.strictSame(await readEnv(secrets), defaults)
  t.same(Object.keys(usable).sort(), [...settingNames].sort(), 'each setting is tried')
  t.strictSame(await readEnv(usable), usable)
  const asText = Object.fromEntries(Object.entries(usable).map(([name, value]) => [name, String(value)]))
  t.strictSame(await readEnv(asText), usable, 'as the process environment has it')
  for (const [name, values] of Object.entries(alsoUsable)) {
    for (const value of values) t.match(await readEnv({ ...secrets, [name]: value }), { [name]: value })
  }
  t.strictSame(
    await readEnv({ ...secrets, SHELL: '/bin/sh', PORTS: 'x' }),
    defaults,
    'other variables are none of ours'
  )
})

await t.test('an unusable value is refused under the name of its setting', async (t) => {
  for (const [name, values] of Object.entries(unusable)) {
    for (const value of values) t.same(await complaints(t, { ...secrets, [name]: value }), [name], name)
  }
})

await t.test('an empty value counts as not set', async (t) => {
  t.strictSame(await readEnv({ ...Object.fromEntries(settingNames.map((name) => [name, ''])), ...secrets }), defaults)
  t.strictSame(await readEnv({ ...secrets, PORT: undefined }), defaults)
})

await t.test('one message names all unusable settings', async (t) => {
  const names = Object.keys(unusable)
  const worst = Object.fromEntries(Object.entries(unusable).map(([name, [value]]) => [name, value]))
  t.same((await complaints(t, worst)).sort(), [...names].sort())
  t.same((await complaints(t, { ...worst, FB_APP_ID: canary() })).sort(), [...names, 'FB_APP_SECRET missing'].sort())
})

await t.test('the app id and the app secret are required together', async (t) => {
  t.same(await complaints(t, { ...secrets, FB_APP_ID: canary() }), ['FB_APP_SECRET missing'])
  t.same(await complaints(t, { ...secrets, FB_APP_SECRET: canary(), FB_APP_ID: '' }), ['FB_APP_ID missing'])
})

await t.test('a webhook for events requires a secret and a safe URL', async (t) => {
  const url = 'https://events.example/hook'
  t.same(await complaints(t, { ...secrets, EVENTS_WEBHOOK_URL: url }), ['EVENTS_WEBHOOK_SECRET missing'])
  t.match(
    await readEnv({ ...secrets, EVENTS_WEBHOOK_SECRET: 's'.repeat(16) }),
    { EVENTS_WEBHOOK_SECRET: 's'.repeat(16) }
  )
  for (const wrong of [canary(), `http://${canary()}.example`, `https://u:${canary()}@host.example`]) {
    t.same(
      await complaints(t, { ...secrets, EVENTS_WEBHOOK_SECRET: 's'.repeat(16), EVENTS_WEBHOOK_URL: wrong }),
      ['EVENTS_WEBHOOK_URL']
    )
  }
})

await t.test('production generates no secret and accepts no weak one', async (t) => {
  const dir = join(t.testdir({}), 'data')
  const required = ['DATABASE_URL', 'JWT_SECRET', 'ENCRYPTION_KEYS']
  t.same(await complaints(t, { NODE_ENV: 'production', DATA_DIR: dir }), required.map((name) => `${name} missing`))
  for (const name of required) t.same(await complaints(t, { ...production, [name]: '' }), [`${name} missing`])
  t.notOk(existsSync(dir))
  t.match(await readEnv(production), { NODE_ENV: 'production', DATABASE_URL: 'embedded', OAUTH_STATE: 'required' })
  t.match(
    await readEnv({ ...production, OAUTH_STATE: 'optional' }),
    { OAUTH_STATE: 'optional' },
    'only its default differs'
  )

  const guessable = ['postgres://u@h.example/x', 'postgres://u:@h.example/x', 'postgres://admin123:ADMIN123@h.example/x', 'postgres://u%20v:u%20v@h.example/x', 'postgres:///x?host=h.example&password=postgres', 'postgres://a:b@h.example/x?user=app&password=app',
    ...[
      'postgres', 'password', 'ChangeMe', 'secret', 'admin', '%70assword'
    ].map((word) => `postgres://u:${word}@h.example/x`)]
  const weak = { JWT_SECRET: 'x'.repeat(31), ENCRYPTION_KEYS: 'k1:c2hvcnQ=' }
  for (const DATABASE_URL of guessable) {
    t.same(
      (await complaints(t, { ...production, ...weak, DATABASE_URL })).sort(),
      [...required].sort(),
      DATABASE_URL
    )
  }
  for (const DATABASE_DIRECT_URL of guessable) {
    t.same(await complaints(t, { ...production, DATABASE_DIRECT_URL }), ['DATABASE_DIRECT_URL'], DATABASE_DIRECT_URL)
  }
  t.same(await complaints(t, { ...production, DATABASE_URL: `mysql://u:${canary()}@h.example` }), ['DATABASE_URL'])

  const strong = [
    'postgres://u:hunter2-hunter2@h.example/x', 'postgres://u:100%@h.example/x', 'postgres://u@localhost/x',
    'postgres://u:u@127.0.0.1/x', 'postgres://u@[::1]/x', 'postgres:///x', 'postgres:///x?host=/run/postgresql',
    'postgres:///x?host=h.example&password=hunter2', 'postgres://u@h.example/x?sslcert=c.pem'
  ]
  for (const url of strong) {
    t.match(
      await readEnv({ ...production, DATABASE_URL: url, DATABASE_DIRECT_URL: url }),
      { DATABASE_URL: url, DATABASE_DIRECT_URL: url }
    )
  }
})

await t.test('local mode generates its secrets once and keeps them', async (t) => {
  const DATA_DIR = join(t.testdir({}), 'data')
  const files = { 'jwt-secret': 'JWT_SECRET', 'encryption-keys': 'ENCRYPTION_KEYS' } as const
  const made = await readEnv({ DATA_DIR })
  t.ok(made.JWT_SECRET.length >= 64)
  t.match(made.ENCRYPTION_KEYS, /^local:.{44}$/)
  for (const [file, name] of Object.entries(files)) {
    t.equal(statSync(join(DATA_DIR, file)).mode & 0o777, 0o600)
    t.equal(readFileSync(join(DATA_DIR, file), 'utf8').trim(), made[name])
  }
  t.strictSame(await readEnv({ DATA_DIR, NODE_ENV: 'test' }), { ...made, NODE_ENV: 'test' })
  t.match(await readEnv({ DATA_DIR, ...secrets }), secrets, 'what is given wins')

  const other = join(DATA_DIR, '..', 'other')
  const half = await readEnv({ DATA_DIR: other, JWT_SECRET: secrets.JWT_SECRET })
  t.same(readdirSync(other), ['encryption-keys'], 'only what is missing is made')
  t.not(half.ENCRYPTION_KEYS, made.ENCRYPTION_KEYS)

  writeFileSync(join(other, 'encryption-keys'), 'canary-spoilt')
  t.same(await complaints(t, { DATA_DIR: other, JWT_SECRET: secrets.JWT_SECRET }), ['ENCRYPTION_KEYS'])
})

await t.test('given settings exclude the process environment', async (t) => {
  const outside = { PORT: '1', WHATSAPP_TOKEN: canary(), JWT_SECRET: canary() }
  for (const [name, value] of Object.entries(outside)) {
    const before = process.env[name]
    t.equal(before, undefined)
    process.env[name] = value
    t.teardown(() => { delete process.env[name] })
  }
  t.strictSame(await readEnv(secrets), defaults)
})

await t.test('.env is read, the process environment precedes it, and a misspelled name causes a warning', async (t) => {
  const cwd = t.testdir(
    {
      '.env': `JWT_SECRET='${secrets.JWT_SECRET}'\nENCRYPTION_KEYS=${secrets.ENCRYPTION_KEYS}\nJWT_ISSUER=file # who\nJWT_AUDIENCE=file\nJWT_ISSUR=canary-value\nFB_APP_SECRET_FIL=x\nPORST=x\n`
    }
  )
  let log = ''
  const server = Fastify({ logger: { stream: { write (line: string) { log += line } } } })
  const before = process.cwd()
  process.chdir(cwd)
  process.env['JWT_AUDIENCE'] = 'process'
  try {
    await server.register(env)
  } finally {
    process.chdir(before)
    delete process.env['JWT_AUDIENCE']
  }
  await server.close()
  t.match(server.env, { JWT_ISSUER: 'file', JWT_AUDIENCE: 'process' })
  t.match(log.trim().split('\n').map((line) => JSON.parse(line)), [
    { level: 40, msg: '.env, line 5: JWT_ISSUR is not a setting and has no effect. Is it meant to be JWT_ISSUER?' },
    {
      level: 40,
      msg: '.env, line 6: FB_APP_SECRET_FIL is not a setting and has no effect. Is it meant to be FB_APP_SECRET_FILE?'
    },
    { level: 40, msg: '.env, line 7: PORST is not a setting and has no effect. Is it meant to be PORT?' }
  ])
})

await t.test('.env.example names all settings in their order', async (t) => {
  const text = readFileSync('.env.example', 'utf8')
  t.same(parseEnv(text), {}, 'nothing in it is needed')
  const example = parseEnv(text.replace(/^#(?=[A-Z_]+=)/gm, ''))
  t.same([...text.matchAll(/^#([A-Z_]+)=/gm)].map(([, name]) => name), settingNames)
  t.match(await readEnv({ ...example, ...secrets }), { HOST: '127.0.0.1', DATABASE_URL: /^postgres:/ })
  for (const [name, value] of Object.entries({
    ...defaults,
    JWT_SECRET: '',
    ENCRYPTION_KEYS: ''
  })) t.equal(example[name], String(value), name)
})

await t.test('a server that has an env decorator already gets an error', async (t) => {
  const server = Fastify()
  server.decorate('env', await readEnv(production))
  await t.rejects(
    async () => { await server.register(env, { env: production }) },
    { code: 'FST_ERR_DEC_ALREADY_PRESENT' }
  )
})
