import { execFile } from 'node:child_process'
import { cpSync, existsSync, readdirSync, readFileSync, symlinkSync, utimesSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { childEnv, createDatabase, JWT_SECRET, newKey, until } from '../helper.js'
import { blocksOf, textOf } from '../docs/markdown.js'
import { checkout, directory } from './sources.js'

// npm installs four times.
t.setTimeout(400_000)

const MISSING = /^dist\/server\.js is missing\. Build it: npm ci --include=dev && npm run build$/m

interface Ended { code: number, stdout: string, stderr: string }

/** Runs a command to its end, whatever its exit code is. */
async function run (cwd: string, command: string, env: Record<string, string> = {}): Promise<Ended> {
  const options = { cwd, env: { ...childEnv({}), npm_config_prefer_offline: 'true', ...env } }
  const failure = (err: Partial<Ended>) => ({ code: Number(err.code), stdout: '', stderr: '', ...err })
  return await promisify(execFile)('sh', ['-c', command], options).then((out) => ({ code: 0, ...out }), failure)
}

const hasCompiler = (dir: string) => existsSync(join(dir, 'node_modules/typescript'))

await t.test('a checkout installs without the compiler, and says what to do instead of starting', async (t) => {
  const commands: Array<[string, Record<string, string>]> = [
    ['npm ci', { NODE_ENV: 'production' }], ['npm ci --omit=dev', {}]
  ]
  for (const [command, env] of commands) {
    const dir = checkout(t)
    const installed = await run(dir, command, env)
    t.equal(installed.code, 0, `${command}: ${installed.stderr}`)
    t.match(installed.stderr, MISSING, 'a build is missed at once')
    t.notOk(hasCompiler(dir))

    const { scripts }: { scripts: Record<string, string> } = JSON.parse(readFileSync(join(dir, 'package.json'), 'utf8'))
    const built = Object.entries(scripts).filter(([, script]) => script.startsWith('node bin/run.js'))
    t.ok(built.length >= 7)
    for (const [name, script] of built) {
      const { code, stderr } = await run(dir, script, env)
      const program = script.split(' ')[2]
      t.strictSame([code, stderr], [1, `dist/${program} is missing. Build it: npm ci --include=dev && npm run build\n`],
        name)
    }
    const started = await run(dir, 'npm start', env)
    t.equal(started.code, 1)
    t.match(started.stderr, MISSING)
    const packed = await run(dir, 'npm pack', env)
    t.not(packed.code, 0, 'no package without a build')
    t.match(packed.stderr, MISSING)
    t.same(readdirSync(dir).filter((name) => name.endsWith('.tgz')), [])

    // A build of an earlier version.
    cpSync('dist', join(dir, 'dist'), { recursive: true })
    utimesSync(join(dir, 'dist/cli/openapi.js'), 0, 0)
    const stale = await run(dir, 'node bin/run.js cli/openapi.js', env)
    t.strictSame([stale.code, stale.stderr],
      [0, 'dist/ is older than src/. Build it: npm ci --include=dev && npm run build\n'])
  }
})

/** Starts the service by a command and returns what /health/ready answers; ends it by SIGTERM. */
async function statusOf (t: Test, cwd: string, command: string, env: Record<string, string>): Promise<number> {
  const { child } = promisify(execFile)('sh', ['-c', `exec ${command}`], { cwd, env: childEnv({ PORT: '0', ...env }) })
  let out = ''
  child.stdout?.on('data', (chunk) => { out += String(chunk) })
  child.stderr?.on('data', (chunk) => { out += String(chunk) })
  const origin = () => /Server listening at (http:[^"]+)/.exec(out)?.[1]
  const ended = new Promise((resolve) => { child.once('exit', resolve) })
  t.teardown(() => { child.kill('SIGKILL') })
  await until(() => {
    if (child.exitCode !== null) throw new Error(out)
    return origin() !== undefined
  }, 60_000)
  const { status } = await fetch(`${origin()}/health/ready`)
  child.kill('SIGTERM')
  t.equal(await ended, 0)
  return status
}

await t.test('a release carries a fresh build, and installs and starts without the compiler', async (t) => {
  const dir = checkout(t)
  symlinkSync(resolve('node_modules'), join(dir, 'node_modules'))
  const { code, stdout, stderr } = await run(dir, 'npm pack --silent')
  t.equal(code, 0, stderr)
  const release = join(dir, stdout.trim().split('\n').at(-1) ?? '')
  t.ok(existsSync(join(dir, 'dist/server.js')), 'npm pack has built it')

  await t.test('as a dependency, with the embedded PostgreSQL', async (t) => {
    const empty = directory(t)
    const installed = await run(empty, `npm install --omit=dev ${release}`)
    t.equal(installed.code, 0, installed.stderr)
    t.notOk(hasCompiler(empty))
    const program = 'node_modules/whatsapp-tenant-config/dist/server.js'
    t.equal(await statusOf(t, empty, `node ${program}`, { DATA_DIR: join(directory(t), 'data') }), 200)
  })

  await t.test('unpacked as docs/operations.md says, with its commands', async (t) => {
    const install = blocksOf(textOf('docs/operations.md')).find(({ text }) => text.includes('npm pack'))
    t.ok(install)
    const target = join(dir, 'release')
    const installed = await run(dir, `set -e\n${String(install?.text).replace('npm pack', ':')}`)
    t.equal(installed.code, 0, installed.stderr)
    t.notOk(hasCompiler(target))
    t.equal(installed.stderr.match(/dist/), null, 'it needs no build')
    const DATABASE_URL = await createDatabase(t, { empty: true })
    const env = { NODE_ENV: 'production', DATABASE_URL, JWT_SECRET, ENCRYPTION_KEYS: `k1:${newKey()}` }
    t.equal((await run(target, 'npm run db:migrate', env)).code, 0)
    t.equal(await statusOf(t, target, 'node dist/server.js', env), 200)
  })
})
