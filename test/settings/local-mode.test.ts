import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from '../run/tap.js'
import type { EnvSource } from '../../src/app.js'
import { hasGeneratedJwtSecret, isLocalMode } from '../../src/settings/local-mode.js'
import { isLoopbackHost } from '../../src/settings/loopback.js'
import { readEnv } from '../../src/settings/env.js'
import { refusedSettings } from './refusal.js'
import { newKey } from '../without-database.js'

const remote = 'postgres://u:hunter2-hunter2@db.example/x'
const local = 'postgres://postgres:postgres@localhost:5432/x'
const hosts = {
  loopback: ['localhost', 'LOCALHOST', '127.0.0.1', '127.1.2.3', '::1', '0:0:0:0:0:0:0:1', '::ffff:127.0.0.1'],
  others: [
    '0.0.0.0', '::', '10.0.0.1', '128.0.0.1', '::ffff:10.0.0.1', '::2', 'localhost.example', 'example.com',
    '127.0.0.1.example', '127.1', '[::1]', '*'
  ]
}

await t.test('isLoopbackHost accepts loopback hosts only', (t) => {
  t.same([...hosts.loopback, ...hosts.others].filter(isLoopbackHost), hosts.loopback)
  t.end()
})

await t.test('local mode requires: not production, the embedded database, a loopback host', async (t) => {
  const dir = t.testdir({})
  for (const NODE_ENV of [undefined, 'development', 'test', 'production']) {
    for (const DATABASE_URL of [undefined, 'embedded', local, remote]) {
      for (const HOST of [undefined, '127.0.0.1', '0.0.0.0']) {
        const isLocal = NODE_ENV !== 'production' && DATABASE_URL !== local && DATABASE_URL !== remote &&
          HOST !== '0.0.0.0'
        const DATA_DIR = join(dir, String(isLocal))
        const settings: EnvSource = { NODE_ENV, DATABASE_URL, HOST, DATA_DIR }
        t.equal(isLocalMode(settings), isLocal, JSON.stringify(settings))
        if (isLocal) {
          t.ok(await hasGeneratedJwtSecret(await readEnv(settings)))
        } else {
          const missing = [
            'JWT_SECRET missing',
            'ENCRYPTION_KEYS missing',
            ...(NODE_ENV === 'production' && DATABASE_URL === undefined ? ['DATABASE_URL missing'] : [])
          ]
          t.same((await refusedSettings(t, settings)).sort(), missing.sort(), JSON.stringify(settings))
        }
      }
    }
  }
  t.notOk(existsSync(join(dir, 'false')), 'outside local mode no secret is generated')
})

await t.test('unusable settings do not count as local mode', async (t) => {
  const DATA_DIR = join(t.testdir({}), 'data')
  for (const wrong of [
    { NODE_ENV: 'prod' }, { NODE_ENV: 'Production' }, { DATABASE_URL: 'EMBEDDED' }, { DATABASE_URL: '"embedded"' },
    { HOST: '"127.0.0.1"' }
  ] satisfies EnvSource[]) {
    t.notOk(isLocalMode(wrong))
    t.same(
      (await refusedSettings(t, { ...wrong, DATA_DIR })).sort(),
      [...Object.keys(wrong), 'ENCRYPTION_KEYS missing', 'JWT_SECRET missing'].sort()
    )
  }
  t.notOk(existsSync(DATA_DIR), 'no secret is generated')
  t.match(
    await readEnv({ NODE_ENV: ' test\n', HOST: ' ::1', DATABASE_URL: 'embedded ', DATA_DIR }),
    { NODE_ENV: 'test', HOST: '::1', DATABASE_URL: 'embedded' }
  )
  t.match(
    await readEnv({ ...await readEnv({ DATA_DIR }), NODE_ENV: 'production ', DATABASE_URL: 'embedded' }),
    { NODE_ENV: 'production' }
  )
})

await t.test('with JWT_JWKS_URL local mode generates no JWT_SECRET, and a former one does not count', async (t) => {
  const DATA_DIR = join(t.testdir({}), 'data')
  const JWT_JWKS_URL = 'https://idp.example/jwks'
  const provided = await readEnv({ DATA_DIR, JWT_JWKS_URL })
  t.equal(provided.JWT_SECRET, undefined)
  t.same(readdirSync(DATA_DIR), ['encryption-keys'])
  t.notOk(await hasGeneratedJwtSecret(provided))
  const { JWT_SECRET } = await readEnv({ DATA_DIR })
  t.equal((await readEnv({ DATA_DIR, JWT_JWKS_URL })).JWT_SECRET, undefined)
  t.notOk(await hasGeneratedJwtSecret(await readEnv({ DATA_DIR, JWT_JWKS_URL, JWT_SECRET })))
})

await t.test('a file for DATABASE_URL that cannot be read leads to no embedded database', async (t) => {
  const DATA_DIR = join(t.testdir({}), 'data')
  t.same(
    (await refusedSettings(t, { DATA_DIR, DATABASE_URL_FILE: join(DATA_DIR, 'none') })).sort(),
    ['DATABASE_URL_FILE', 'ENCRYPTION_KEYS missing', 'JWT_SECRET missing']
  )
  t.notOk(existsSync(DATA_DIR), 'no secret is generated')
})

await t.test('a given JWT_SECRET does not count as generated', async (t) => {
  const DATA_DIR = join(t.testdir({}), 'data')
  const given = { DATA_DIR, JWT_SECRET: newKey(), ENCRYPTION_KEYS: `k1:${newKey()}` }
  t.notOk(await hasGeneratedJwtSecret(await readEnv(given)), 'no secret was generated before')
  const generated = await readEnv({ DATA_DIR })
  t.ok(await hasGeneratedJwtSecret(generated))
  t.notOk(await hasGeneratedJwtSecret(await readEnv(given)), 'the generated secret is another one')
  t.notOk(await hasGeneratedJwtSecret(await readEnv({ ...generated, DATABASE_URL: local })))
  writeFileSync(join(DATA_DIR, 'jwt-secret'), '')
  t.notOk(await hasGeneratedJwtSecret(await readEnv(given)), 'an unusable file is ignored if a secret is given')
  rmSync(join(DATA_DIR, 'jwt-secret'))
  t.match(
    await readEnv({ DATA_DIR, JWT_SECRET_FILE: join(DATA_DIR, 'encryption-keys') }),
    { JWT_SECRET: generated.ENCRYPTION_KEYS }
  )
  t.notOk(existsSync(join(DATA_DIR, 'jwt-secret')), 'a secret from a file is not generated')
  t.same(await refusedSettings(t, { DATA_DIR, JWT_SECRET_FILE: join(DATA_DIR, 'none') }), ['JWT_SECRET_FILE'])
  t.notOk(existsSync(join(DATA_DIR, 'jwt-secret')), 'no secret is generated if the file cannot be read')
})
