import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import type { Test } from 'tap'
import t from './run/tap.js'
import { buildApp } from '../src/app.js'
import { signed } from './fixtures/server-process.js'
import { baseEnv, createDatabase, newKey, until } from './helper.js'
import { start } from './started-server.js'

// Each process compiles our sources again.
t.setTimeout(300_000)

const canary = `canary-${randomBytes(12).toString('hex')}`
const secrets = { JWT_SECRET: `${canary}-of-thirty-two-bytes-or-more`, ENCRYPTION_KEYS: `k1:${newKey()}` }
const DATABASE_URL = await createDatabase(t)
const lines = (settings: Record<string, string>) =>
  Object.entries(settings).map(([name, value]) => `${name}=${value}\n`).join('')
const whole = lines({ NODE_ENV: 'production', DATABASE_URL, ...secrets })

/** Starts the service with this `.env` and ends it once it listens. Returns its output and the files that it left. */
async function serve (t: Test, dotEnv: string | Buffer | null, env: Record<string, string> = {}) {
  const cwd = mkdtempSync(join(tmpdir(), 'production-'))
  t.teardown(() => rmSync(cwd, { recursive: true }))
  if (dotEnv === null) mkdirSync(join(cwd, '.env'))
  else writeFileSync(join(cwd, '.env'), dotEnv)
  const { child, out, err, ended } = start(t, cwd, env)
  const origin = () => /Server listening at (http:[^"]+)/.exec(out())?.[1]
  await until(() => origin() !== undefined || child.exitCode !== null, 60_000)
  const status = async (token: string) =>
    (await fetch(
      `${origin()}/api/v1/tenant/admin/configs/stats`,
      { headers: { authorization: `Bearer ${token}` } }
    )).status
  const admin = origin() === undefined ? 'refused' : await status(signed({ role: 'admin' }, secrets.JWT_SECRET))
  child.kill('SIGTERM')
  await ended
  return { admin, out: out(), err: err(), left: readdirSync(cwd).filter((name) => name !== '.env') }
}

/** Asserts that a start fails with this message, prints no value and no token, and leaves no files. */
async function refused (
  t: Test,
  message: RegExp,
  dotEnv: string | Buffer | null,
  env?: Record<string, string>
): Promise<void> {
  const { admin, out, err, left } = await serve(t, dotEnv, env)
  t.equal(admin, 'refused')
  t.match(err, message)
  t.notMatch(out + err, canary)
  t.notMatch(out + err, /eyJ/)
  t.same(left, [])
}

await t.test('a production .env in any encoding starts the service in production mode or is refused', async (t) => {
  for (const text of [
    `\uFEFF${whole}`,
    `export ${whole.replace('production', '"production"  # as it is').replaceAll('\n', '\r\n')}`
  ]) {
    const { admin, out, err, left } = await serve(t, text)
    t.equal(admin, 200, 'the service accepts a token signed with the given secret')
    t.match(out, /Server listening at http:\/\/(?!127)/, 'it listens on all addresses')
    t.notMatch(out + err, /eyJ|curl|Local mode/)
    t.same([err, left], ['', []])
  }
  await refused(t, /\.env, line 1: the text is not UTF-8/, Buffer.from(`\uFEFF${whole}`, 'utf16le'))
  await refused(t, /\.env, line 1: this is neither NAME=value nor a comment/, whole.replace('=', ': '))
  await refused(t, /\.env, line 1: the value must end with the quote/, `FOO="\n${whole}`)
  await refused(t, /\.env is a directory/, null)
})

await t.test('NODE_ENV of the environment is trimmed, and refused if it is unknown', async (t) => {
  const { admin, out, err, left } = await serve(t, whole, { NODE_ENV: 'production ' })
  t.equal(admin, 200)
  t.notMatch(out + err, /eyJ|curl|Local mode/)
  t.same(left, [])
  await refused(
    t,
    new RegExp(
      '^The service did not start: Some settings cannot be used:\\n' +
        ' {2}NODE_ENV is not usable: production, development or test\\n$'
    ),
    whole,
    { NODE_ENV: 'prod' }
  )
})

await t.test('with an external database or a public HOST, secrets are neither generated nor printed', async (t) => {
  const missing = new RegExp(
    '^The service did not start: Some settings cannot be used:\\n' +
      ' {2}JWT_SECRET is missing: .*openssl rand.*\\n {2}ENCRYPTION_KEYS is missing: .*openssl rand.*\\n$'
  )
  await refused(t, missing, lines({ DATABASE_URL }))
  await refused(t, missing, '', { HOST: '0.0.0.0' })
  const { admin, out, err } = await serve(t, lines({ DATABASE_URL, ...secrets }))
  t.equal(admin, 200)
  t.notMatch(out + err, /eyJ|curl|Local mode/)
})

await t.test('a JWT_SECRET that no token could match is refused at start', async (t) => {
  const production = { NODE_ENV: 'production', DATABASE_URL, ...secrets }
  const wrapped = `${canary}${randomBytes(24).toString('base64')}\n${randomBytes(16).toString('base64')}`
  await refused(t, /JWT_SECRET is not usable: it holds a line break/, '', { ...production, JWT_SECRET: wrapped })
  await refused(
    t,
    /JWT_SECRET is not usable: there are quotes around the value/,
    '',
    { ...production, JWT_SECRET: `"${secrets.JWT_SECRET}"` }
  )
  t.equal(
    (await serve(t, '', { ...production, JWT_SECRET: `${secrets.JWT_SECRET}\n` })).admin,
    200,
    'a line break at the end is trimmed'
  )
})

await t.test('a misspelled name in .env causes a warning without its value', async (t) => {
  const { admin, out, err } = await serve(t, `${whole}\nJWT_ISSUR=${canary}\nREDIS_URL=${canary}\n`)
  t.equal(admin, 200)
  const warnings = out.split('\n').filter((line) => line.includes('"level":40'))
  t.match(
    warnings.map((line) => JSON.parse(line).msg),
    ['.env, line 6: JWT_ISSUR is not a setting and has no effect. Is it meant to be JWT_ISSUER?']
  )
  t.equal(warnings.length, 1)
  t.notMatch(out + err, canary)
})

await t.test('a remote database without TLS causes a warning without its URL, in production too', async (t) => {
  /** The warnings that are logged before the start fails, because no database is at these hosts. */
  async function warnings (settings: Record<string, string>): Promise<string[]> {
    let log = ''
    const logTo = new Writable({ write (chunk, _encoding, done) { log += String(chunk); done() } })
    await t.rejects(buildApp({ ...baseEnv, ...settings }, { logTo }), /The database cannot be reached/)
    t.notMatch(log, canary)
    return log.split('\n').filter((line) => line.includes('"level":40')).map((line) => JSON.parse(line).msg)
  }
  const remote = `postgres://u:${canary}@db.invalid/x`
  const warning = (name: string) =>
    `${name} leads to another machine without TLS, so what is sent can be read. Add ?sslmode=verify-full.`
  for (const NODE_ENV of ['development', 'production']) {
    t.same(await warnings({ NODE_ENV, DATABASE_URL: remote }), [warning('DATABASE_URL')])
  }
  t.same(
    await warnings({ DATABASE_URL: `${remote}?sslmode=disable`, DATABASE_DIRECT_URL: remote }),
    [warning('DATABASE_URL'), warning('DATABASE_DIRECT_URL')]
  )
  t.same(
    await warnings({ DATABASE_URL: `postgres:///x?host=db.invalid&password=${canary}` }),
    [warning('DATABASE_URL')]
  )
  t.same(
    await warnings({ DATABASE_URL: `${remote}?sslmode=no-verify`, DATABASE_DIRECT_URL: 'postgres://u@db.invalid/x' }),
    [warning('DATABASE_DIRECT_URL')]
  )
  for (const url of [
    `${remote}?sslmode=verify-full`, `${remote}?ssl=true`, 'postgres://127.0.0.1:1/x', 'postgres://127.9.9.9:1/x',
    'postgres://[::1]:1/x', 'postgres://localhost:1/x', 'postgres:///x?host=/nowhere'
  ]) {
    t.same(await warnings({ DATABASE_URL: url }), [], url)
  }
})
