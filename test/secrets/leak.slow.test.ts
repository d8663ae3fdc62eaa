import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { trace } from '@opentelemetry/api'
import t from '../run/tap.js'
import { obtainAuditKey } from '../../src/audit/audit-key.sql.js'
import * as errors from '../../src/errors.js'
import { answerScan, FULL } from './answer-scan.js'
import { canary, scanner } from './canaries.js'
import { exchange } from './misplaced.js'
import { inFiles, LOG, logIn, tablesOf, withoutLookups } from './stored-texts.js'
import { dataDir } from '../fixtures/embedded.js'
import { serverProcess, signed } from '../fixtures/server-process.js'
import { buildTestApp, query, until } from '../helper.js'
import { metricsUrl, scrape } from '../metrics/scrape.js'
import { loadSdk, spans } from '../tracing/sdk.js'

t.setTimeout(600_000)

// The SDK is that of the whole process, hence a process of its own.
loadSdk()
const { env, postgres, bearer, leaks, codes, used, leaksInAnswers, deliveries } = await answerScan(t)
/** The operations of the service. */
const operations: string[] = []

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
  leaks.add('the audit key', await obtainAuditKey(fastify.database, fastify.vault))
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
  const document = (await fastify.inject('/docs/json')).body
  t.same(leaks('the document', document), [])
  operations.push(...operationsOf(JSON.parse(document)))
  t.same(leaks('the log', log()), [])
  const metrics = async () => (await scrape(metricsUrl(log()))).text
  t.match(await metrics(), 'http_request')
  t.same(leaks('the metrics', await metrics()), [])
  t.same(leaks('a span', textOfSpans()), [])

  // Shows that the scans would find a leak.
  fastify.log.info({ planted: canary('planted') })
  t.not(leaks('the log', log()).length, 0)
  trace.getTracer('planted').startSpan(canary('planted')).end()
  t.not(leaks('a span', textOfSpans()).length, 0)
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

await t.test('each operation was used with success', async (t) => {
  const isUsed = (operation: string) => [...used].some((request) =>
    RegExp(`^${operation.replaceAll(/\{\w+\}/g, '[^/]+')}$`).test(request))
  t.ok(operations.length > 30)
  t.same(operations.filter((operation) => !isUsed(operation)), [])
})

await t.test('no secret is in the tables, the files or the log of the database', async (t) => {
  t.same(leaks('a table', await tablesOf(postgres.url)), [])
  await postgres.stop('fast')
  t.same(inFiles(leaks, postgres.dir).filter((name) => name !== LOG), ['postgres-password'])
  t.match(logIn(postgres.dir), /DETAIL: {2}Parameters: .*'v2\.k2\./, 'it has the parameters of statements')
  t.match(logIn(postgres.dir), /ERROR: {2}42703: column "verify_token" does not exist/, 'and those that fail')
  t.same(leaks(LOG, withoutLookups(logIn(postgres.dir))), [])

  await postgres.start()
  await query(postgres.url, 'select $1::text', [canary('planted')])
  t.not(leaks(LOG, withoutLookups(logIn(postgres.dir))).length, 0)
  await query(postgres.url, `create table planted as select '${canary('planted')}' as text`)
  t.not(leaks('a table', await tablesOf(postgres.url)).length, 0)
  await postgres.stop('fast')
  t.match(inFiles(leaks, postgres.dir), [
    'postgres-password', LOG, /^postgres\/base\//, /^postgres\/pg_wal\//
  ])
})

await t.test('no secret is in an event or a record that was sent', async (t) => {
  for (const [name, { received, url }] of Object.entries(deliveries)) {
    const texts = () => received.map(({ body, headers }) => `${JSON.stringify(headers)} ${String(body)}`).join('\n')
    t.ok(received.length > 0, name)
    t.same(leaks(name, texts()), [])
    await fetch(url, { method: 'POST', body: JSON.stringify({ planted: canary('planted') }) })
    t.not(leaks(name, texts()).length, 0)
  }
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

/** Methods and paths of a document. */
function operationsOf ({ paths }: { paths: Record<string, object> }): string[] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`))
}

/** All spans so far, without what no exporter sends. */
function textOfSpans (): string {
  return JSON.stringify(spans().map(({ name, attributes, events, links, status, resource }) =>
    [name, attributes, events, links, status, resource.attributes]))
}
