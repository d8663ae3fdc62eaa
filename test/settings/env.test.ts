import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseEnv } from 'node:util'
import { Ajv } from 'ajv'
import Fastify from 'fastify'
import t from '../run/tap.js'
import env, { readEnv, settingNames } from '../../src/settings/env.js'
import { settings } from '../../src/settings/schema.js'
import { guessable, strong } from './database-urls.js'
import { alsoUsable, canary, production, secrets, unusable, usable } from './env-cases.js'
import { defaults } from './env-defaults.js'
import { refusedSettings } from './refusal.js'

await t.test('usable values are returned, and defaults fill the rest', async (t) => {
  t.strictSame(await readEnv(secrets), defaults)
  t.same(Object.keys(usable).sort(), [...settingNames].sort(), 'every setting has a usable value here')
  t.strictSame(await readEnv(usable), usable)
  const asText = Object.fromEntries(Object.entries(usable).map(([name, value]) => [name, String(value)]))
  t.strictSame(await readEnv(asText), usable, 'values as text, as in the process environment')
  for (const [name, values] of Object.entries(alsoUsable)) {
    for (const value of values) t.match(await readEnv({ ...secrets, [name]: value }), { [name]: value })
  }
  t.strictSame(
    await readEnv({ ...secrets, SHELL: '/bin/sh', PORTS: 'x' }),
    defaults,
    'variables that are no settings are ignored'
  )
})

await t.test('the schema of each setting is a valid one', async (t) => {
  // The service does not check it: the start would take longer.
  const ajv = new Ajv()
  for (const [name, schema] of Object.entries(settings)) t.equal(ajv.validateSchema(schema), true, name)
})

await t.test('an unusable value is refused under the name of its setting', async (t) => {
  for (const [name, values] of Object.entries(unusable)) {
    for (const value of values) t.same(await refusedSettings(t, { ...secrets, [name]: value }), [name], name)
  }
})

await t.test('an empty value counts as not set', async (t) => {
  t.strictSame(await readEnv({ ...Object.fromEntries(settingNames.map((name) => [name, ''])), ...secrets }), defaults)
  t.strictSame(await readEnv({ ...secrets, PORT: undefined }), defaults)
})

await t.test('one message names all unusable settings', async (t) => {
  const names = Object.keys(unusable)
  const worst = Object.fromEntries(Object.entries(unusable).map(([name, [value]]) => [name, value]))
  t.same((await refusedSettings(t, worst)).sort(), [...names].sort())
  t.same(
    (await refusedSettings(t, { ...worst, FB_APP_ID: canary() })).sort(),
    [...names, 'FB_APP_SECRET missing'].sort()
  )
})

await t.test('the app id and the app secret are required together', async (t) => {
  t.same(await refusedSettings(t, { ...secrets, FB_APP_ID: canary() }), ['FB_APP_SECRET missing'])
  t.same(await refusedSettings(t, { ...secrets, FB_APP_SECRET: canary(), FB_APP_ID: '' }), ['FB_APP_ID missing'])
})

await t.test('a webhook for events requires a secret and a safe URL', async (t) => {
  const url = 'https://events.example/hook'
  t.same(await refusedSettings(t, { ...secrets, EVENTS_WEBHOOK_URL: url }), ['EVENTS_WEBHOOK_SECRET missing'])
  t.match(
    await readEnv({ ...secrets, EVENTS_WEBHOOK_SECRET: 's'.repeat(16) }),
    { EVENTS_WEBHOOK_SECRET: 's'.repeat(16) }
  )
  for (const wrong of [canary(), `http://${canary()}.example`, `https://u:${canary()}@host.example`]) {
    t.same(
      await refusedSettings(t, { ...secrets, EVENTS_WEBHOOK_SECRET: 's'.repeat(16), EVENTS_WEBHOOK_URL: wrong }),
      ['EVENTS_WEBHOOK_URL']
    )
  }
})

await t.test('an audit stream to a URL requires a secret and a safe URL, one to stdout nothing', async (t) => {
  const signed = { ...secrets, AUDIT_STREAM_SECRET: 's'.repeat(16) }
  t.match(await readEnv({ ...secrets, AUDIT_STREAM: 'stdout' }), { AUDIT_STREAM: 'stdout' })
  for (const url of ['https://siem.example/collect', 'http://127.0.0.1:1/collect']) {
    t.same(await refusedSettings(t, { ...secrets, AUDIT_STREAM: url }), ['AUDIT_STREAM_SECRET missing'])
    t.match(await readEnv({ ...signed, AUDIT_STREAM: url }), { AUDIT_STREAM: url })
  }
  for (const wrong of [
    canary(), 'STDOUT', `http://${canary()}.example`, `https://u:${canary()}@siem.example`, 'stderr'
  ]) t.same(await refusedSettings(t, { ...signed, AUDIT_STREAM: wrong }), ['AUDIT_STREAM'])
})

await t.test('production generates no secret and accepts no weak one', async (t) => {
  const dir = join(t.testdir({}), 'data')
  const required = ['DATABASE_URL', 'JWT_SECRET', 'ENCRYPTION_KEYS']
  t.same(await refusedSettings(t, { NODE_ENV: 'production', DATA_DIR: dir }), required.map((name) => `${name} missing`))
  for (const name of required) t.same(await refusedSettings(t, { ...production, [name]: '' }), [`${name} missing`])
  t.notOk(existsSync(dir))
  t.match(await readEnv(production), {
    NODE_ENV: 'production', DATABASE_URL: 'embedded', OAUTH_STATE: 'required', DATABASE_WALL: 'required'
  })
  t.match(
    await readEnv({ ...production, OAUTH_STATE: 'optional' }),
    { OAUTH_STATE: 'optional' },
    'production changes only the default'
  )

  const weak = { JWT_SECRET: 'x'.repeat(31), ENCRYPTION_KEYS: 'k1:c2hvcnQ=' }
  for (const DATABASE_URL of guessable) {
    t.same(
      (await refusedSettings(t, { ...production, ...weak, DATABASE_URL })).sort(),
      [...required].sort(),
      DATABASE_URL
    )
  }
  for (const DATABASE_DIRECT_URL of guessable) {
    t.same(
      await refusedSettings(t, { ...production, DATABASE_DIRECT_URL }),
      ['DATABASE_DIRECT_URL'],
      DATABASE_DIRECT_URL
    )
  }
  t.same(await refusedSettings(t, { ...production, DATABASE_URL: `mysql://u:${canary()}@h.example` }), ['DATABASE_URL'])

  for (const url of strong) {
    t.match(
      await readEnv({ ...production, DATABASE_URL: url, DATABASE_DIRECT_URL: url }),
      { DATABASE_URL: url, DATABASE_DIRECT_URL: url }
    )
  }
})

await t.test('JWT_JWKS_URL replaces JWT_SECRET; production then requires issuer and audience', async (t) => {
  const provider = { JWT_JWKS_URL: 'https://idp.example/jwks', ENCRYPTION_KEYS: secrets.ENCRYPTION_KEYS }
  const remote = { DATABASE_URL: 'postgres://u:hunter2-hunter2@db.example/x' }
  const accepts = { JWT_ISSUER: 'https://idp.example', JWT_AUDIENCE: 'whatsapp' }
  t.equal((await readEnv({ ...provider, ...remote })).JWT_SECRET, undefined)
  t.match(await readEnv({ ...secrets, ...provider }), { ...secrets, ...provider }, 'both are possible')
  t.same(await refusedSettings(t, { ...provider, ...remote, JWT_SECRET: 'x'.repeat(31) }), ['JWT_SECRET'])
  for (const more of [{}, { JWT_SECRET: secrets.JWT_SECRET }]) {
    const settings = { NODE_ENV: 'production', ...remote, ...provider, ...more }
    t.same(await refusedSettings(t, settings), ['JWT_ISSUER missing', 'JWT_AUDIENCE missing'])
    t.same(await refusedSettings(t, { ...settings, JWT_ISSUER: 'i', JWT_AUDIENCE: ' ' }), ['JWT_AUDIENCE missing'])
    t.match(await readEnv({ ...settings, ...accepts }), accepts)
  }
  t.same(
    await refusedSettings(t, { ...remote, ...provider, JWT_JWKS_URL: `http://${canary()}.example` }),
    ['JWT_JWKS_URL']
  )
  t.match(await readEnv({ ...production, ...remote }), { NODE_ENV: 'production' }, 'HS256 alone requires neither')
})

await t.test('local mode generates its secrets once and keeps them', async (t) => {
  const DATA_DIR = join(t.testdir({}), 'data')
  const files = { 'jwt-secret': 'JWT_SECRET', 'encryption-keys': 'ENCRYPTION_KEYS' } as const
  const generated = await readEnv({ DATA_DIR })
  t.match(generated.JWT_SECRET, /^.{64,}$/)
  t.match(generated.ENCRYPTION_KEYS, /^local:.{44}$/)
  for (const [file, name] of Object.entries(files)) {
    t.equal(statSync(join(DATA_DIR, file)).mode & 0o777, 0o600)
    t.equal(readFileSync(join(DATA_DIR, file), 'utf8').trim(), generated[name])
  }
  t.strictSame(await readEnv({ DATA_DIR, NODE_ENV: 'test' }), { ...generated, NODE_ENV: 'test' })
  t.match(await readEnv({ DATA_DIR, ...secrets }), secrets, 'given secrets precede generated ones')

  const other = join(DATA_DIR, '..', 'other')
  const half = await readEnv({ DATA_DIR: other, JWT_SECRET: secrets.JWT_SECRET })
  t.same(readdirSync(other), ['encryption-keys'], 'only missing secrets are generated')
  t.not(half.ENCRYPTION_KEYS, generated.ENCRYPTION_KEYS)

  writeFileSync(join(other, 'encryption-keys'), 'canary-spoilt')
  t.same(await refusedSettings(t, { DATA_DIR: other, JWT_SECRET: secrets.JWT_SECRET }), ['ENCRYPTION_KEYS'])
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
      '.env': `JWT_SECRET='${secrets.JWT_SECRET}'\nENCRYPTION_KEYS=${secrets.ENCRYPTION_KEYS}\n` +
        'JWT_ISSUER=file # who\nJWT_AUDIENCE=file\nJWT_ISSUR=canary-value\nFB_APP_SECRET_FIL=x\nPORST=x\n'
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
  t.same(parseEnv(text), {}, 'every setting in it is commented out')
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
