import { execFileSync } from 'node:child_process'
import { chmodSync, cpSync, lstatSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { findPackagedBinaries, prepareBinaries, type Binaries } from '../../../src/database/embedded/binaries.js'
import { canReach, ensureSystemUser, spawnOptions } from '../../../src/database/embedded/system-user.js'

const onlyAsRoot = { skip: process.getuid?.() === 0 ? false : 'needs root' }

/** The package as npm unpacks it without its install script, in a new directory. */
async function unpacked (t: Test): Promise<{ binaries: Binaries, version: string }> {
  const dir = mkdtempSync(join(tmpdir(), 'binaries-'))
  t.teardown(() => { rmSync(dir, { recursive: true }) })
  const native = dirname(dirname((await findPackagedBinaries()).postgres))
  cpSync(native, join(dir, 'native'), { recursive: true, filter: path => !lstatSync(path).isSymbolicLink() })
  const version = `test-${process.pid}`
  writeFileSync(join(dir, 'package.json'), JSON.stringify({ version }))
  const bin = join(dir, 'native/bin')
  return { binaries: { postgres: join(bin, 'postgres'), initdb: join(bin, 'initdb') }, version }
}

await t.test('the binaries run without their install script', async t => {
  const { binaries } = await unpacked(t)
  chmodSync(binaries.initdb, 0o644)
  t.throws(() => execFileSync(binaries.postgres, ['--version'], { stdio: 'pipe' }), /shared libraries/)
  t.same(await prepareBinaries(binaries, {}), binaries)
  for (const program of Object.values(binaries)) {
    t.match(execFileSync(program, ['--version'], { encoding: 'utf8' }), /PostgreSQL\) 18/)
  }
})

await t.test('a library link that cannot be created is an error', async t => {
  const { binaries } = await unpacked(t)
  const links = join(dirname(dirname(binaries.postgres)), 'pg-symlinks.json')
  writeFileSync(links, JSON.stringify([{ source: 'native/lib/libpq.so.5.18', target: 'native/nowhere/libpq.so.5' }]))
  await t.rejects(prepareBinaries(binaries, {}), { code: 'ENOENT' })
})

await t.test('the binaries are copied to a place where the user can run them', onlyAsRoot, async t => {
  const { binaries, version } = await unpacked(t)
  const account = ensureSystemUser()
  const shared = '/var/lib/whatsapp-tenant-config'
  t.teardown(() => { rmSync(join(shared, `postgresql-${version}`), { recursive: true, force: true }) })
  t.notOk(canReach(binaries.postgres, account))
  const both = await Promise.all([prepareBinaries(binaries, account), prepareBinaries(binaries, account)])
  t.same(both[0], both[1])
  t.same(await prepareBinaries(binaries, account), both[0], 'a second call reuses the copy')
  t.equal(both[0]?.postgres, join(shared, `postgresql-${version}/bin/postgres`))
  for (const program of Object.values(both[0] ?? {})) {
    t.match(execFileSync(program, ['--version'], { ...spawnOptions(account), encoding: 'utf8' }), /PostgreSQL\) 18/)
  }
  const copy = join(shared, `postgresql-${version}`)
  t.equal(statSync(copy).uid, 0)
  t.equal(statSync(copy).mode & 0o777, 0o755)
  t.ok(lstatSync(join(copy, 'lib/libpq.so.5')).isSymbolicLink())
  t.same(readdirSync(shared).filter(name => name.startsWith(`postgresql-${version}.`)), [])
})

await t.test('the system user is created when missing', onlyAsRoot, async t => {
  const name = `wtc-test-${process.pid}`
  t.teardown(() => { execFileSync('userdel', [name]) })
  const made = ensureSystemUser(name)
  t.not(made.uid, 0)
  t.ok(Number.isInteger(made.uid))
  t.same(ensureSystemUser(name), made)
  t.throws(
    () => ensureSystemUser('not a name'),
    { message: /refuses to run as root, and a user "not a name" .* could not be created \(.*invalid user name/ }
  )
})
