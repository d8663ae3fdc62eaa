import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import t from '../run/tap.js'
import type { EnvSource } from '../../src/app.js'
import { readEnv, secretNames } from '../../src/settings/env.js'
import { refusedSettings, refusal } from './refusal.js'
import { newKey } from '../without-database.js'

const canary = () => `canary${randomBytes(16).toString('hex')}`
const required = { JWT_SECRET: canary(), ENCRYPTION_KEYS: `k1:${newKey()}` }
/** A usable value for each secret setting. */
const secrets: Record<string, string> = {
  ...required,
  DATABASE_URL: `postgres://u:${canary()}@127.0.0.1/x`,
  DATABASE_DIRECT_URL: `postgres://u:${canary()}@127.0.0.1/x`,
  TRANSIT_TOKEN: canary(),
  HTTPS_PROXY: `http://u:${canary()}@127.0.0.1:3128`,
  WHATSAPP_TOKEN: canary(),
  VERIFY_TOKEN: canary(),
  FB_APP_SECRET: canary(),
  EVENTS_WEBHOOK_SECRET: canary(),
  AUDIT_STREAM_SECRET: canary(),
  WEBHOOK_VERIFY_TOKEN: canary(),
  FB_APP_SECRETS_PREVIOUS: `${canary()},${canary()}`
}
const settings: EnvSource = { ...secrets, FB_APP_ID: '1' }

/** The settings without the named one. */
const without = (name: string): EnvSource => ({ ...settings, [name]: undefined })

await t.test('the tests below cover every secret setting', async (t) => {
  t.same([...secretNames].sort(), Object.keys(secrets).sort())
  t.match(await readEnv(settings), settings)
})

await t.test('blanks and line breaks around a value are trimmed', async (t) => {
  for (const blanks of ['\n', '\r\n', ' ', '\t', '\u00a0', '\uFEFF']) {
    t.match(
      await readEnv(
        Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, `${blanks}${value}${blanks}`]))
      ),
      settings,
      JSON.stringify(blanks)
    )
  }
  t.match(
    await readEnv({
      ...settings,
      PORT: ' 80 ',
      NODE_ENV: 'production ',
      LOG_LEVEL: 'warn\n',
      CONFIG_REFUSE_DEAD_TOKENS: ' true'
    }),
    { PORT: 80, NODE_ENV: 'production', LOG_LEVEL: 'warn', CONFIG_REFUSE_DEAD_TOKENS: true }
  )
  t.same(await refusedSettings(t, { ...settings, JWT_SECRET: ' \n' }), ['JWT_SECRET missing'])
})

await t.test('quotes around a whole value are refused by name', async (t) => {
  for (const [name, value] of Object.entries({
    ...settings,
    JWT_ISSUER: 'issuer',
    HOST: '127.0.0.1',
    OAUTH_REDIRECT_URIS: 'https://a.example/cb',
    DATA_DIR: 'data'
  })) {
    for (const [open, close] of ['""', "''", '``', '“”', '„“', '‘’']) {
      const message = await refusal(t, { ...settings, [name]: `${open}${value}${close}` })
      t.equal(
        message,
        `Some settings cannot be used:\n  ${name} is not usable: there are quotes around the value; leave them out`
      )
    }
  }
  for (const [name, value] of Object.entries({
    NODE_ENV: '"test"',
    PORT: '"80"',
    MIGRATE_ON_START: "'true'"
  })) t.same(await refusedSettings(t, { ...settings, [name]: value }), [name])
  for (const name of ['JWT_SECRET', 'VERIFY_TOKEN']) {
    t.same(await refusedSettings(t, { ...settings, [name]: '""' }), [name], 'quotes around an empty value are refused')
    for (const value of [`"${canary()}`, `it's ${canary()}'`, `${canary()}"${canary()}`]) {
      t.match(
        await readEnv({ ...settings, [name]: value }),
        { [name]: value },
        'quotes elsewhere are part of the value'
      )
    }
  }
})

await t.test('a control character in a secret, or a byte that was not UTF-8, is refused', async (t) => {
  for (const [name, value] of Object.entries(secrets)) {
    for (const character of ['\n', '\r\n', '\t', '\0', '\x7f', '\x85', '\uFFFD']) {
      const message = await refusal(t, { ...settings, [name]: `${value}${character}${value}` })
      t.equal(
        message,
        `Some settings cannot be used:\n  ${name} is not usable: it holds a line break, another control character, ` +
          'or bytes that are not UTF-8',
        JSON.stringify(character)
      )
    }
  }
  const wrapped = randomBytes(64).toString('base64').replace(/.{64}/, '$&\n')
  t.same(
    await refusedSettings(t, { ...settings, JWT_SECRET: wrapped }),
    ['JWT_SECRET'],
    'a value wrapped by openssl is refused'
  )
})

await t.test('a PEM is refused as JWT_SECRET', async (t) => {
  const pem = `-----BEGIN PUBLIC KEY-----\n${randomBytes(44).toString('base64')}\n-----END PUBLIC KEY-----\n`
  for (const value of [pem, pem.replaceAll('\n', '\\n'), pem.replaceAll('\n', ' ')]) {
    t.match(
      await refusal(t, { ...settings, JWT_SECRET: value }),
      /^Some settings cannot be used:\n {2}JWT_SECRET is not usable: it is a PEM, [^\n]+$/
    )
  }
})

/** Writes this content to a new file and returns its path. */
function fileOf (t: Test, content: string | Buffer): string {
  const path = join(t.testdirName, randomBytes(8).toString('hex'))
  writeFileSync(path, content)
  return path
}

await t.test('NAME_FILE names a file with the value, for each secret', async (t) => {
  t.testdir({})
  for (const [name, value] of Object.entries(secrets)) {
    for (const content of [value, `${value}\n`, `${value}\r\n`, `\uFEFF ${value} \n`]) {
      const env = await readEnv({ ...without(name), [`${name}_FILE`]: ` ${fileOf(t, content)} ` })
      t.strictSame(env, await readEnv(settings), `${name}_FILE`)
    }
  }
  const fromFiles = Object.fromEntries(
    Object.entries(secrets).map(([name, value]) => [`${name}_FILE`, fileOf(t, value)])
  )
  t.strictSame(
    await readEnv({ FB_APP_ID: '1', NODE_ENV: 'production', ...fromFiles }),
    await readEnv({ ...settings, NODE_ENV: 'production' }),
    'files for all secrets together, in production'
  )
  t.match(
    await readEnv({ ...settings, PORT_FILE: '/none', JWT_ISSUER_FILE: '/none', JWT_SECRET_FILE: ' ' }),
    settings,
    'only a secret is read from a file, and an empty file name is ignored'
  )
})

await t.test('an unusable file is refused under the name of its setting, without path or content', async (t) => {
  t.testdir({})
  const directory = join(t.testdirName, 'directory')
  mkdirSync(directory)
  for (const name of secretNames) {
    const path = join(t.testdirName, canary())
    for (const [file, why] of [
      [path, 'the file cannot be read (ENOENT)'], [directory, 'the file cannot be read (EISDIR)'],
      [fileOf(t, ''), 'the file is empty'], [fileOf(t, ' \n'), 'the file is empty'],
      [fileOf(t, Buffer.from([0xff, 0xfe, 0x41, 0x00])), 'the file is not UTF-8']
    ] as const) {
      t.equal(
        await refusal(t, { ...without(name), [`${name}_FILE`]: file }),
        `Some settings cannot be used:\n  ${name}_FILE is not usable: ${why}`
      )
    }
    const both = { ...settings, [`${name}_FILE`]: fileOf(t, String(secrets[name])) }
    t.equal(
      await refusal(t, both),
      `Some settings cannot be used:\n  ${name}_FILE is not usable: ${name} is set too; set one of the two`
    )
  }
  const content = canary()
  const message = await refusal(t, {
    ...settings,
    ENCRYPTION_KEYS: undefined,
    ENCRYPTION_KEYS_FILE: fileOf(t, content),
    JWT_SECRET_FILE: path(),
    PORT: 'x'
  })
  t.match(message, /ENCRYPTION_KEYS is not usable/)
  t.same(
    message.match(/^ {2}\w+/gm)?.sort(),
    ['  ENCRYPTION_KEYS', '  JWT_SECRET_FILE', '  PORT'],
    'all faults are in one message'
  )
  t.notMatch(message, content)

  function path () { return fileOf(t, canary()) }
})
