import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { sessionOptions } from '../../src/database/connection.js'
import { parseDatabaseUrl } from '../../src/settings/database-url.js'
import { forms, refusedUrls } from './database-urls.js'
import { production, secrets } from './env-cases.js'
import { refusal } from './refusal.js'

/** Runs work with these PG* variables of the process, and no others. */
async function withVariables<T> (variables: Record<string, string>, work: () => T | Promise<T>): Promise<T> {
  const before = Object.entries(process.env).filter(([name]) => name.startsWith('PG'))
  for (const [name] of before) delete process.env[name]
  Object.assign(process.env, variables)
  try {
    return await work()
  } finally {
    for (const name of Object.keys(variables)) delete process.env[name]
    Object.assign(process.env, Object.fromEntries(before))
  }
}

/** Where a client would connect. */
function targetOf (config: pg.ClientConfig) {
  const client = new pg.Client(config)
  const { host, port, user, password, database, ssl } = client
  return { host, port, user, password, database, ssl, options: Reflect.get(client, 'connectionParameters').options }
}

// A private key is not enumerable.
const namesOf = (ssl: unknown) => Reflect.ownKeys(Object(ssl)).sort()

function certificate (t: Test): string {
  const file = join(t.testdir({}), 'ca.pem')
  writeFileSync(file, '-----BEGIN CERTIFICATE-----')
  return file
}

await t.test('a client gets what the URL and the PG* variables say', async (t) => {
  const file = certificate(t)
  for (const [name, { url, env = {}, unlikePg, ...expected }] of Object.entries(forms)) {
    const connectionString = url.replaceAll('<ca>', file)
    const ours = await withVariables(env, () => targetOf(sessionOptions(connectionString)))
    const whole = { port: 5432, ssl: false, options: undefined, ...expected }
    t.match(ours, whole, name)
    t.same(namesOf(ours.ssl), namesOf(whole.ssl), `${name}: no other option of TLS`)
    if (unlikePg === true) continue
    const theirs = await withVariables(env, () => targetOf({ connectionString }))
    t.match(ours, theirs, `${name}: as in pg`)
  }
})

await t.test('a URL that cannot be used is refused with the reason, by the name of its setting', async (t) => {
  const dir = t.testdir({ text: 'canary' })
  for (const [form, reason] of Object.entries(refusedUrls)) {
    const url = form.replace('<dir>', dir)
    for (const name of ['DATABASE_URL', 'DATABASE_DIRECT_URL']) {
      const [, line = '', ...more] = (await refusal(t, { ...secrets, [name]: url })).split('\n')
      t.match(line.replace(`  ${name} is not usable: `, ''), reason, form)
      t.match(line, `  ${name} is not usable: `, form)
      t.same(more, [], form)
      t.notMatch(line, 'canary')
    }
  }
  const bare = () => parseDatabaseUrl('postgres://')
  await t.rejects(withVariables({ PGHOST: 'h1,h2' }, bare), /several hosts/)
  await t.rejects(withVariables({ PGPORT: 'x' }, bare), /PGPORT/)
})

await t.test('connect_timeout is read in seconds', async (t) => {
  const seconds = { 1: 1000, 10: 10000, 0: undefined, '-1': undefined, 999999999: 2147483000 }
  for (const [text, ms] of Object.entries(seconds)) {
    t.equal(parseDatabaseUrl(`postgres://h/x?connect_timeout=${text}`).connectTimeoutMs, ms, text)
  }
  t.equal(parseDatabaseUrl('postgres://h/x').connectTimeoutMs, undefined)
  const fromVariable = () => parseDatabaseUrl('postgres://h/x').connectTimeoutMs
  t.equal(await withVariables({ PGCONNECT_TIMEOUT: '7' }, fromVariable), 7000)
})

await t.test('in production PG* variables and a client certificate count too', async (t) => {
  const weak = 'DATABASE_URL is not usable: in production a database on another machine needs a password that is ' +
    'hard to guess, in the URL or in PGPASSWORD'
  const url = 'postgres://u@h.example/x'
  const strong = { PGPASSWORD: 'a-long-password' }
  for (const [DATABASE_URL, variables, isAccepted] of [
    [url, strong, true],
    [url, { PGPASSWORD: 'u' }, false],
    [url, {}, false],
    [`${url}?password=a-long-password`, {}, true],
    [`${url}?password=secret`, strong, false],
    [`${url}?sslcert=${certificate(t)}`, {}, true],
    ['postgres://', { PGUSER: 'u' }, true],
    ['postgres://', { PGHOST: 'h.example', PGUSER: 'App', PGPASSWORD: 'app' }, false],
    ['postgres://', { PGHOST: 'h.example', ...strong }, true]
  ] as const) {
    const message = await withVariables(variables, async () => await refusal(t, { ...production, DATABASE_URL }))
    t.match(message, isAccepted ? 'nothing was refused' : weak, DATABASE_URL)
  }
})
