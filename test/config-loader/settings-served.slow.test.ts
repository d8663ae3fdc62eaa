import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { createConfigLoader } from '../../src/app.js'
import { buildTestApp, childEnv, createDatabase, newKey } from '../helper.js'
import { modulePath } from '../run/paths.js'

const secrets = { JWT_SECRET: 's'.repeat(32), ENCRYPTION_KEYS: `k1:${newKey()}` }

/** Writes the content to a new file and returns its path. */
function fileOf (t: Test, content: string): string {
  const path = join(t.testdirName, randomBytes(8).toString('hex'))
  writeFileSync(path, content)
  return path
}

await t.test('a service with given settings ignores the process environment', async (t) => {
  for (const [name, value] of Object.entries({ PORT: '1', WHATSAPP_TOKEN: 'outside' })) {
    process.env[name] = value
    t.teardown(() => { delete process.env[name] })
  }
  const { app } = await buildTestApp(t)
  t.equal(app.env.WHATSAPP_TOKEN, undefined)
  t.equal(app.env.PORT, 0)
})

await t.test('a command reads .env in the working directory, and the process environment wins', async (t) => {
  const lines = [
    `JWT_SECRET='${secrets.JWT_SECRET}'`, `ENCRYPTION_KEYS=${secrets.ENCRYPTION_KEYS}`, 'JWT_ISSUER=file # who',
    'JWT_AUDIENCE=file', 'JWT_TENANT_CLAIM=', 'JWT_ISSUR=canary-value'
  ]
  const cwd = t.testdir({ '.env': lines.map((line) => `${line}\n`).join('') })
  const command = [...process.execArgv, modulePath('src/cli/token.ts'), '--tenant', 'acme']
  const mint = async (env: Record<string, string>) => await promisify(execFile)(
    process.execPath,
    command,
    { cwd, env: childEnv(env) }
  )
  const { stdout, stderr } = await mint({ JWT_AUDIENCE: 'process', JWT_ISSUER: ' ' })
  t.match(
    JSON.parse(Buffer.from(stdout.split('.')[1] ?? '', 'base64url').toString()),
    { tenant_id: 'acme', iss: 'file', aud: 'process' }
  )
  t.equal(stderr, '.env, line 6: JWT_ISSUR is not a setting and has no effect. Is it meant to be JWT_ISSUER?\n')

  rmSync(join(cwd, '.env'))
  mkdirSync(join(cwd, '.env'))
  await t.rejects(mint(secrets), /\.env is a directory\./, 'an unreadable .env is an error')
})

await t.test('TRUST_PROXY decides which client address is logged', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const forwarded = { 'x-forwarded-for': '203.0.113.9, 10.0.0.2' }
  for (const [TRUST_PROXY, ip] of [
    ['false', '10.0.0.1'], ['true', '203.0.113.9'], ['1', '10.0.0.2'], ['2', '203.0.113.9'],
    ['10.0.0.1, ::1', '10.0.0.2'], ['10.0.0.0/8', '203.0.113.9']
  ] as const) {
    const { app, log } = await buildTestApp(t, { DATABASE_URL, TRUST_PROXY })
    await app.inject({ url: '/health/live', headers: forwarded, remoteAddress: '10.0.0.1' })
    t.match(log(), `"path":"/health/live","ip":"${ip}"`, TRUST_PROXY)
  }
})

await t.test('createConfigLoader reads NAME_FILE too, and databaseUrl replaces both forms', async (t) => {
  t.testdir({})
  const url = await createDatabase(t)
  const env = {
    NODE_ENV: 'production',
    LOG_LEVEL: 'silent',
    ENCRYPTION_KEYS_FILE: fileOf(t, secrets.ENCRYPTION_KEYS),
    JWT_SECRET_FILE: '/none'
  }
  for (const options of [
    { env: { ...env, DATABASE_URL_FILE: fileOf(t, `${url}\n`) } },
    { databaseUrl: url, env: { ...env, DATABASE_URL_FILE: '/none' } }
  ]) {
    const loader = await createConfigLoader(options)
    t.equal((await loader.forTenant('acme')).hasTenantConfig(), false)
    await loader.close()
  }
})
