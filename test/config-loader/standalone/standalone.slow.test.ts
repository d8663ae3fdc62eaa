import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { createConfigLoader } from '../../../src/app.js'
import { createVault } from '../../../src/vault/vault.js'
import { tcpProxy } from '../../fixtures/proxies/tcp-proxy.js'
import { childEnv, createDatabase, newKey, query, until } from '../../helper.js'
import { modulePath } from '../../run/paths.js'

const ENCRYPTION_KEYS = `k1:${newKey()}`
const env = { NODE_ENV: 'production', LOG_LEVEL: 'silent', ENCRYPTION_KEYS }
const write = async (url: string, tenant: string, phone: string) => {
  await query(
    url,
    'insert into tenant_configs (tenant_id, phone_number_id) values ($1, $2) on conflict (tenant_id) do update set ' +
      'phone_number_id = excluded.phone_number_id',
    [tenant, phone]
  )
}
const OURS = 'select application_name from pg_stat_activity where datname = current_database() and application_name ' +
  "like 'whatsapp-tenant-config%'"
const connections = async (url: string) => (await query(url, OURS)).length

/** Starts the loader in its own process, with these arguments and this environment; works in `cwd`. */
function startWorker (t: Test, args: unknown[], settings: Record<string, string>, cwd = '.') {
  const child = spawn(
    process.execPath,
    [...process.execArgv, modulePath('test/config-loader/standalone/loader-process.ts'), JSON.stringify(args)],
    { cwd, env: childEnv(settings) }
  )
  t.teardown(() => { child.kill('SIGKILL') })
  const lines: string[] = []
  let stderr = ''
  createInterface({ input: child.stdout }).on('line', (line) => { lines.push(line) })
  child.stderr.on('data', (chunk) => { stderr += String(chunk) })
  const closed = once(child, 'close')
  return {
    child,
    lines,
    stderr: () => stderr,
    ask: (tenant: string) => { child.stdin.write(`${tenant}\n`) },
    /** Waits for so many lines and returns the last. */
    async waitForLine (count: number) {
      await until(() => {
        if (child.exitCode !== null && lines.length < count) throw new Error(stderr)
        return lines.length >= count
      })
      return lines.at(-1)
    },
    async end () {
      child.stdin.end()
      const begun = performance.now()
      const [code] = await closed
      return { code, ms: performance.now() - begun }
    }
  }
}

await t.test('a worker needs no JWT_SECRET, serves the writes of others, and exits by itself', async (t) => {
  const url = await createDatabase(t)
  await write(url, 'acme', '1')
  // Empty values, as in a .env that was not filled in.
  const cwd = t.testdir({
    '.env': 'JWT_SECRET=\nDATABASE_URL=\nCONFIG_CACHE_MAXX=canary-value\nJWT_JWKS_URL=https://idp.example/jwks\n'
  })
  const { ask, waitForLine, lines, stderr, end } = startWorker(
    t,
    [{ databaseUrl: url }],
    // Without JWT_ISSUER, which the service would require.
    { ...env, NODE_ENV: 'production', LOG_LEVEL: 'info', DATABASE_POOL_MAX: '2' },
    cwd
  )
  await waitForLine(1)
  ask('acme')
  t.equal(await waitForLine(2), 'acme: 1')
  await write(url, 'acme', '2')
  const written = performance.now()
  await until(() => {
    ask('acme')
    return lines.includes('acme: 2')
  })
  t.ok(performance.now() - written < 5000, 'the write is served before the TTL ends')
  t.equal((await end()).code, 0)
  t.equal(lines.at(-1), 'does not listen')
  t.same(lines.filter((line) => !/^(ready|acme: [12]|does not listen)$/.test(line)), [], 'the log is not on stdout')
  t.match(
    stderr(),
    /^\{"level":40.*CONFIG_CACHE_MAXX is not a setting.*\}\n\{.*changes of configurations are heard at once"\}\n$/
  )
  t.notMatch(stderr(), 'canary-value')
  await until(async () => await connections(url) === 0)
})

await t.test('a worker that was frozen does not serve its old cache', async (t) => {
  const url = await createDatabase(t)
  await write(url, 'acme', '1')
  const { child, ask, waitForLine, lines, end } = startWorker(t, [], { ...env, DATABASE_URL: url })
  await waitForLine(1)
  ask('acme')
  t.equal(await waitForLine(2), 'acme: 1')
  child.kill('SIGSTOP')
  const stopped = performance.now()
  await write(url, 'acme', '2')
  ask('acme')
  await until(() => performance.now() > stopped + 6100)
  t.equal(lines.length, 2)
  child.kill('SIGCONT')
  t.equal(await waitForLine(3), 'acme: 2')
  t.equal((await end()).code, 0)
})

await t.test('a worker exits soon when its listening connection is half open or never opened', async (t) => {
  const url = await createDatabase(t)
  const proxy = await tcpProxy(t, url)
  const settings = { ...env, DATABASE_URL: url, DATABASE_DIRECT_URL: proxy.url }
  const up = startWorker(t, [], settings)
  await up.waitForLine(1)
  proxy.freeze()
  const down = startWorker(t, [], settings)
  await down.waitForLine(1)
  for (const { end } of [up, down]) {
    const { code, ms } = await end()
    t.equal(code, 0)
    t.ok(ms < 5000, `${Math.round(ms)} ms`)
  }
  t.equal(
    (await query(
      url,
      "select from pg_stat_activity where datname = current_database() and application_name = 'whatsapp-tenant-config'"
    )).length,
    0
  )
})

await t.test('createConfigLoader returns the same loader as the service', async (t) => {
  const url = await createDatabase(t)
  const vault = createVault({ keyRing: ENCRYPTION_KEYS })
  await query(
    url,
    'insert into tenant_configs (tenant_id, phone_number_id, waba_id, access_token, last_verified_at) values ' +
      "('acme', '1', '10', $1, now())",
    [vault.seal('the token', 'acme', 'access_token')]
  )
  const loader = await createConfigLoader({ databaseUrl: url, env })
  t.teardown(loader.close)
  t.equal((await loader.forTenant('acme')).getAccessToken(), 'the token')
  t.equal((await loader.forPhoneNumber('1'))?.getTenantId(), 'acme')
  t.same((await loader.forWaba('10')).map((snapshot) => snapshot.getTenantId()), ['acme'])
  t.match(await loader.getWhatsappConfig('acme'), { phone_id: '1' })
  t.match(loader.stats(), { channel: 'up', entries: { tenants: 1 } })
  await loader.close()
  await loader.close()
  await until(async () => await connections(url) === 0)
  await t.rejects(loader.forTenant('other'), { code: 'DATABASE_UNAVAILABLE' }, 'a closed loader serves nothing')
  t.equal(loader.stats().channel, 'down')
})

await t.test('two loaders in one process share nothing', async (t) => {
  const [one, other] = await Promise.all([createDatabase(t), createDatabase(t)])
  await Promise.all([write(one, 'acme', '1'), write(other, 'acme', '2')])
  const loaders = await Promise.all(
    [one, one, other].map(async (databaseUrl) => await createConfigLoader({ databaseUrl, env }))
  )
  for (const { close } of loaders) t.teardown(close)
  const phones = async () => await Promise.all(
    loaders.map(async ({ forTenant }) => (await forTenant('acme')).getPhoneId())
  )
  t.same(await phones(), ['1', '1', '2'])
  await loaders[0]?.close()
  await write(one, 'acme', '3')
  await until(async () => (await loaders[1]?.forTenant('acme'))?.getPhoneId() === '3')
  t.equal((await loaders[2]?.forTenant('acme'))?.getPhoneId(), '2')
})

await t.test('createConfigLoader rejects with the reason when it cannot start', async (t) => {
  const url = await createDatabase(t)
  const fails = async (options: Parameters<typeof createConfigLoader>[0]) =>
    await createConfigLoader(options).then(() => 'the loader started', (err: Error) => err.message)

  const canary = 'canary-of-a-value'
  const wrong = await fails({
    databaseUrl: `mysql://u:${canary}@h/x`,
    env: { ...env, ENCRYPTION_KEYS: canary, CONFIG_CACHE_MAX: canary, LOG_LEVEL: canary, JWT_SECRET: 'short' }
  })
  t.same(
    wrong.match(/^ {2}[A-Z_]+ is .*?(?=:)/gm)?.sort(),
    ['CONFIG_CACHE_MAX', 'DATABASE_URL', 'ENCRYPTION_KEYS', 'LOG_LEVEL'].map((name) => `  ${name} is not usable`)
  )
  t.notMatch(wrong, canary)
  t.match(
    await fails({ databaseUrl: url, env: { NODE_ENV: 'production' } }),
    /\n {2}ENCRYPTION_KEYS is missing: [^\n]*$/
  )

  const local = { NODE_ENV: 'development', LOG_LEVEL: 'silent', ENCRYPTION_KEYS }
  for (const options of [
    { env: local }, { databaseUrl: '', env: local }, { databaseUrl: 'embedded', env: local },
    { env: { ...local, DATABASE_URL: 'embedded' } }
  ]) {
    t.equal(
      await fails(options),
      'There is no database to load from: pass databaseUrl, or set DATABASE_URL, as postgres://…'
    )
  }
  t.match(await fails({ env }), 'DATABASE_URL is missing')

  const unreachableUrl = new URL(url)
  unreachableUrl.port = '9'
  unreachableUrl.password = canary
  const unreachable = await fails({ databaseUrl: unreachableUrl.href, env })
  t.match(unreachable, /^The database cannot be reached: .*ECONNREFUSED/)
  t.notMatch(unreachable, canary)
  const frozen = await tcpProxy(t, url)
  frozen.freeze()
  t.match(await fails({ databaseUrl: frozen.url, env }), /^The database cannot be reached: .*timeout/)

  const behind = await createDatabase(t, { empty: true })
  t.match(
    await fails({ databaseUrl: behind, env }),
    /^The database lacks the migrations .*0002_changes.*npm run db:migrate/
  )
  await (await createConfigLoader({ databaseUrl: url, env })).close()
  t.match(await fails({ databaseUrl: url, env: { ...env, ENCRYPTION_KEYS: `k1:${newKey()}` } }), /ENCRYPTION_KEYS/)
  for (const database of [url, behind]) await until(async () => await connections(database) === 0)
})

await t.test('a worker that cannot start exits with an error on stderr', async (t) => {
  const url = await createDatabase(t, { empty: true })
  const { end, lines, stderr } = startWorker(t, [{ databaseUrl: url }], env)
  t.not((await end()).code, 0)
  t.same(lines, [])
  t.match(stderr(), 'The database lacks the migrations')
})

await t.test('createConfigLoader never migrates, whatever MIGRATE_ON_START is', async (t) => {
  const url = await createDatabase(t, { empty: true })
  for (const settings of [{ MIGRATE_ON_START: true }, { MIGRATE_ON_START: 'true' }, {}]) {
    await t.rejects(
      createConfigLoader({ databaseUrl: url, env: { ...env, ...settings } }),
      { message: /^The database lacks the migrations 0000_tenant_configs, / }
    )
  }
  t.same(
    await query(url, "select to_regclass('tenant_configs') as table, to_regnamespace('drizzle') as schema"),
    [{ table: null, schema: null }]
  )
})
