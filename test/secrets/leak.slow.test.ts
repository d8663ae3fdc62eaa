import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { inspect } from 'node:util'
import t from '../run/tap.js'
import * as errors from '../../src/errors.js'
import { answerScan, FULL } from './answer-scan.js'
import { canary, scanner } from './canaries.js'
import { exchange } from './misplaced.js'
import { dataDir } from '../fixtures/embedded.js'
import { serverProcess, signed } from '../fixtures/server-process.js'
import { buildTestApp, query, until } from '../helper.js'

t.setTimeout(300_000)

const { env, postgres, bearer, leaks, codes, leaksInAnswers } = await answerScan(t)

/** Any signed token. A shorter pattern could match Meta's random `fbtrace_id`. */
const TOKEN = /eyJ[\w-]+\.eyJ[\w-]+\.[\w-]+/g

/** The text of a thrown value with all its properties. */
const textOf = (err: unknown) => inspect(err, {
  showHidden: true,
  depth: Infinity,
  maxStringLength: Infinity,
  maxArrayLength: Infinity
})

await t.test('in this process no secret is in an answer, the log, the document or an error', async (t) => {
  const { app: fastify, log } = await buildTestApp(t, env)
  await fastify.listen({ port: 0, host: '127.0.0.1' })
  const thrown: unknown[] = []
  const load = async (tenantId: string) => {
    await fastify.configLoader.forTenant(tenantId).catch((err: unknown) => { thrown.push(err) })
  }
  t.same(await leaksInAnswers(fastify.listeningOrigin, async () => { await load('second') }), [])
  await query(postgres.url, "update tenant_configs set access_token = verify_token where tenant_id = 'tampered'")
  for (const id of ['tampered', `${canary('id')}\0`, canary('id').repeat(2)]) await load(id)
  t.match(thrown.map((err) => err instanceof Error && 'code' in err ? err.code : String(err)).sort(), [
    '42703', 'DATABASE_UNAVAILABLE', 'DATABASE_UNAVAILABLE', 'DATABASE_UNAVAILABLE', 'SECRET_UNREADABLE',
    /^TypeError/, /^TypeError/
  ])
  t.same(thrown.flatMap((err) => leaks('an error of the loader', textOf(err))), [])
  const snapshot = await fastify.configLoader.forTenant('second')
  t.match(snapshot.getAccessToken(), canary('access_token').slice(0, 16))
  t.same(leaks('a snapshot', textOf(snapshot) + JSON.stringify(snapshot)), [])
  t.same(leaks('the document', (await fastify.inject('/docs/json')).body), [])
  t.same(leaks('the log', log()), [])

  // Shows that the scans would find a leak.
  fastify.log.info({ planted: canary('planted') })
  t.not(leaks('the log', log()).length, 0)
  const full = await exchange(fastify.listeningOrigin, {
    method: 'GET',
    path: FULL,
    headers: { authorization: bearer('second') }
  })
  t.not(leaks('an answer', full.whole).length, 0)
  t.not(
    leaks(
      'an error',
      textOf(Object.defineProperty(new Error('x'), 'hidden', { value: [[[[canary('planted')]]]] }))
    ).length,
    0
  )
})

// In the server process: prints on demand, and fails with an error that carries secrets in every property.
const remoteControl = `data:text/javascript,${encodeURIComponent(`process.on('message', ({ print, fail, reject }) => {
  if (print) for (const stream of [process.stdout, process.stderr]) stream.write(print)
  if (reject) Promise.reject(reject)
  if (fail) {
    setImmediate(() => {
      const err = new Error('Failed query ' + fail, { cause: new Error(fail) })
      throw Object.assign(err, { query: fail, params: [fail], detail: fail })
    })
  }
})`)}`

await t.test('in a process of its own no secret is in an answer, stdout or stderr', async (t) => {
  const server = await serverProcess(t, env, ['--import', remoteControl])
  t.same(await leaksInAnswers(server.origin), [])
  server.child.send({ fail: canary('uncaught') })
  t.equal(await server.end('SIGCONT'), 1, 'an uncaught error ends the process')
  t.match(server.stdout(), 'closing on an error that nobody caught')

  t.same((server.stdout() + server.stderr()).match(TOKEN), null, 'no token is printed outside local mode')
  t.same([...leaks('stdout', server.stdout()), ...leaks('stderr', server.stderr())], [])
})

await t.test('with an embedded database its own secrets are in no answer and no output', async (t) => {
  const dir = dataDir(t)
  const { DATABASE_URL, JWT_SECRET, ENCRYPTION_KEYS, ...others } = env
  const server = await serverProcess(t, { ...others, DATA_DIR: dir }, ['--import', remoteControl])
  const contentOf = (name: string) => readFileSync(join(dir, name), 'utf8').trim()
  const own = {
    'jwt-secret': contentOf('jwt-secret'),
    'encryption-keys': contentOf('encryption-keys').split(':')[1] ?? '',
    'postgres-password': contentOf('postgres-password')
  }
  const ownLeaks = scanner(own)
  const authorization = `Bearer ${signed({ tenant_id: 'x' }, own['jwt-secret'])}`

  // Local mode prints two tokens on purpose, in lines outside its log.
  await until(() => server.stdout().includes('/stats -H'))
  const lines = server.stdout().split('\n')
  const tokensOf = (isLog: boolean) => new Set(
    lines.filter((line) => line.startsWith('{"level":') === isLog).join('\n').match(TOKEN)
  )
  const claims = [...tokensOf(false)].map((token) => JSON.parse(
    Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()
  ))
  t.match(claims, [{ tenant_id: 'demo-tenant' }, { role: 'admin' }])
  t.equal(claims.length, 2)
  t.equal(tokensOf(true).size, 0)

  const body = JSON.stringify({ access_token: canary('access_token'), verify_token: own['encryption-keys'] })
  const created = await exchange(server.origin, {
    method: 'POST',
    path: '/api/v1/tenant/config',
    headers: { authorization, 'content-type': 'application/json' },
    body
  })
  t.equal(created.status, 201)
  t.same(ownLeaks('an answer', created.whole), [])

  const planted = canary('planted')
  server.child.send({ print: planted })
  await until(() => leaks('stdout', server.stdout()).length > 0 && leaks('stderr', server.stderr()).length > 0)
  server.child.send({ reject: own['encryption-keys'] })
  t.equal(await server.end('SIGCONT'), 1)
  t.match(server.stdout(), 'closing on an error that nobody caught')
  t.same(ownLeaks('stdout and stderr', (server.stdout() + server.stderr()).replaceAll(planted, '')), [])
  t.same(inFiles(ownLeaks, dir), Object.keys(own).sort(), 'only the files for these secrets contain them')
})

await t.test('no secret is in the tables, the files or the log of the database', async (t) => {
  t.same(leaks('a table', await tablesOf(postgres.url)), [])
  await postgres.stop('fast')
  t.same(inFiles(leaks, postgres.dir), ['postgres-password'])

  await postgres.start()
  await query(postgres.url, `create table planted as select '${canary('planted')}' as text`)
  t.not(leaks('a table', await tablesOf(postgres.url)).length, 0)
  await postgres.stop('fast')
  t.match(inFiles(leaks, postgres.dir), ['postgres-password', /^postgres\/base\//, /^postgres\/pg_wal\//])
})

await t.test('the scanner finds a secret in every encoding, whole or cut', async (t) => {
  const secret = canary('planted')
  const parts = [secret, secret.slice(0, 30), secret.slice(-30)]
  const forms = parts.flatMap((part) => Array.from({ length: 6 }, (_, around) => {
    const bytes = Buffer.from(`${'x'.repeat(around)}${part}${'y'.repeat(around)}`)
    const hex = bytes.toString('hex')
    return [
      bytes.toString(), hex, hex.toUpperCase(), bytes.toString('base64'), bytes.toString('base64url'),
      hex.replace(/../g, '%$&')
    ]
  })).flat()
  t.same(forms.filter((form) => leaks('a form', `before ${form} after`).length === 0), [])
  t.same(leaks('nothing', secret.replaceAll('Cnry', 'cnry')), [])
})

await t.test('every error code was met, except those that need another setup', async (t) => {
  const everyCode = errors.errorClasses.map((ErrorClass) => new ErrorClass().code)
  const unmet = [
    // These need a service without an app, half a minute, nine clients, or an identity provider.
    'META_APP_NOT_CONFIGURED', 'REQUEST_TIMEOUT', 'OVERLOADED', 'IDENTITY_UNAVAILABLE',
    // These need a closing service or interfering processes.
    'SERVICE_CLOSING', 'ONBOARDING_UNDER_WAY', 'CONFIG_CHANGING', 'AUDIT_UNAVAILABLE',
    'IDEMPOTENCY_IN_PROGRESS',
    // These need another FULL_CONFIG_ACCESS.
    'REVEAL_DISABLED',
    // Only the loader throws these.
    'TENANT_INACTIVE', 'TOKEN_DEAD'
  ]
  t.same(everyCode.filter((code) => !codes.has(code)).sort(), unmet.sort())
})

/** Every row of every table, as text. */
async function tablesOf (url: string): Promise<string> {
  const tables = await query(
    url,
    "select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname not in ('pg_catalog', " +
      "'information_schema')"
  )
  const rows = await Promise.all(
    tables.map(async ({ name }) => await query(url, `select t::text as row from ${name} t`))
  )
  return JSON.stringify(rows)
}

/** The files of a directory in which a scanner finds a secret. */
function inFiles (scan: typeof leaks, dir: string): string[] {
  const files = readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(join(dir, name)).isFile())
  return files.filter((name) => scan(name, readFileSync(join(dir, name))).length > 0).sort()
}
