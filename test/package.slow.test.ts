import { execFile } from 'node:child_process'
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import t from './run/tap.js'
import { childEnv, createDatabase, newKey } from './helper.js'

const run = promisify(execFile)

await t.test('the package contains the files that it needs, and no others', async (t) => {
  const { stdout } = await run('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'])
  const [{ files }]: [{ files: { path: string }[] }] = JSON.parse(stdout)
  const paths = files.map(({ path }) => path)
  for (const path of [
    'package.json', 'bin/run.js', 'dist/app.js', 'dist/app.d.ts', 'dist/server.js', 'dist/cli/migrate.js',
    'drizzle/meta/_journal.json', 'drizzle/0000_tenant_configs.sql', '.env.example'
  ]) t.ok(paths.includes(path), path)
  const known = /^(bin|dist|drizzle|docs)\/|^(package\.json|README\.md|LICENSE|\.env\.example)$/
  t.same(paths.filter((path) => !known.test(path)), [])
})

/** The directory of another package that depends on ours. */
function dependent (t: Test): string {
  const dir = t.testdir({})
  mkdirSync(join(dir, 'node_modules'))
  symlinkSync(process.cwd(), join(dir, 'node_modules/whatsapp-tenant-config'))
  symlinkSync(join(process.cwd(), 'node_modules/fastify'), join(dir, 'node_modules/fastify'))
  return dir
}

await t.test('another package can use the package as a dependency', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const dir = dependent(t)
  writeFileSync(join(dir, 'main.mjs'), `
    import Fastify from 'fastify'
    import plugin, { buildApp } from 'whatsapp-tenant-config'

    const { DATABASE_URL, ENCRYPTION_KEYS } = process.env
    const JWT_SECRET = 'x'.repeat(32)
    const env = { DATABASE_URL, JWT_SECRET, ENCRYPTION_KEYS, LOG_LEVEL: 'silent', WHATSAPP_WABA_ID: 'of env' }
    const app = await buildApp(env)
    await app.tenantConfigs.create('acme', null, { waba_id: 'of acme' })
    const ready = await app.inject('/health/ready')
    await app.close()

    const host = Fastify()
    await host.register(plugin, { env })
    host.get('/theirs', async () => { throw Object.assign(new Error('their own words'), { statusCode: 418 }) })
    const urls = ['/theirs', '/nowhere', '/health/ready', '/api/v1/tenant/config']
    const [theirs, nowhere, ours, login] = await Promise.all(urls.map(async (url) => (await host.inject(url)).json()))
    const wabaOf = async (tenant) => (await host.configLoader.forTenant(tenant)).getWabaId()
    const wabas = await Promise.all(['acme', 'other'].map(wabaOf))
    await host.close()
    const { listening } = app.server
    console.log(JSON.stringify({ listening, ready: ready.statusCode, theirs, nowhere, ours, login, wabas }))
  `)
  // The build may be older than the sources whose coverage is measured.
  const env = childEnv({ DATABASE_URL, ENCRYPTION_KEYS: `k1:${newKey()}`, _TAPJS_PROCESSINFO_COVERAGE_: '0' })
  const { stdout, stderr } = await run(process.execPath, [join(dir, 'main.mjs')], { cwd: dir, env })
  t.equal(stderr, '')
  t.match(JSON.parse(stdout), {
    listening: false,
    ready: 200,
    theirs: { statusCode: 418, message: 'their own words' },
    nowhere: { statusCode: 404, error: 'Not Found' },
    ours: { status: 'ok' },
    login: { code: 'UNAUTHENTICATED' },
    wabas: ['of acme', 'of env']
  })
})

await t.test('another package compiles against the exported types', async (t) => {
  const dir = dependent(t)
  writeFileSync(join(dir, 'main.mts'), `
    import Fastify from 'fastify'
    import plugin, {
      buildApp, createConfigLoader, type ConfigSnapshot, type Explanation, type LoaderStats
    } from 'whatsapp-tenant-config'

    const host = Fastify()
    await host.register(plugin, { env: { LOG_LEVEL: 'silent' }, prefix: '/whatsapp', docs: false, health: false })
    const app = await buildApp({ PORT: 0 })
    const loader = await createConfigLoader({ databaseUrl: 'postgres://localhost/wtc' })
    for (const { forPhoneNumber, forWaba, explain, stats } of [host.configLoader, app.configLoader, loader]) {
      const found: ConfigSnapshot | null = await forPhoneNumber('1')
      const all: readonly ConfigSnapshot[] = await forWaba('1')
      const { decision }: Explanation = await explain('acme')
      const { channel }: LoaderStats = stats()
      console.log(found?.isVerified(), found?.getTenantId()?.length, all.length, decision === 'serve', channel === 'up')
    }
    await loader.close()
    // @ts-expect-error
    host.configLoader.invalidate
    // @ts-expect-error
    app.configLoader.invalidateAll
    // @ts-expect-error
    loader.invalidate
    // @ts-expect-error
    loader.invalidateAll
    // @ts-expect-error
    await host.register(plugin, { environment: {} })
  `)
  const options = [
    '--noEmit', '--strict', '--exactOptionalPropertyTypes', '--skipLibCheck', '--module', 'nodenext', '--target',
    'es2023'
  ]
  const { code = 0, stdout } = await run(
    process.execPath,
    [resolve('node_modules/typescript/bin/tsc'), ...options, 'main.mts'],
    { cwd: dir }
  ).catch((err) => err)
  t.strictSame([code, stdout], [0, ''])
})
