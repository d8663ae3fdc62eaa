import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import promises from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { isAbsolute, join, relative } from 'node:path'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { ensureDataDir, readOrCreateSecret } from '../../src/settings/data-dir.js'

const modeOf = (path: string) => statSync(path).mode & 0o777

function directory (t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'data-dir-'))
  t.teardown(() => { rmSync(dir, { recursive: true }) })
  return dir
}

await t.test('the data directory is private, whatever the umask', async t => {
  const dir = directory(t)
  const umask = process.umask(0o077)
  t.teardown(() => { process.umask(umask) })
  t.intercept(process, 'getuid', { value: () => 0 })
  const path = await ensureDataDir(relative(process.cwd(), join(dir, 'deep/as-root')))
  t.ok(isAbsolute(path))
  t.equal(modeOf(path), 0o711, 'the PostgreSQL user of root may enter the directory')
  t.intercept(process, 'getuid', { value: () => 1000 })
  t.equal(modeOf(await ensureDataDir(join(dir, 'as-user'))), 0o700)
  process.umask(0)
  mkdirSync(join(dir, 'given'), { mode: 0o750 })
  t.equal(modeOf(await ensureDataDir(join(dir, 'given'))), 0o750, 'an existing directory keeps its mode')
  writeFileSync(join(dir, 'file'), '')
  await t.rejects(ensureDataDir(join(dir, 'file')), { code: 'EEXIST' })
})

await t.test('a secret is generated once', async t => {
  const dir = directory(t)
  let generated = 0
  const make = () => `secret-${++generated}`
  const first = await Promise.all(Array.from({ length: 8 }, () => readOrCreateSecret(dir, 'key', make)))
  t.equal(new Set(first).size, 1, 'concurrent calls return the same secret')
  const before = generated
  t.equal(await readOrCreateSecret(dir, 'key', make), first[0])
  t.equal(generated, before)
  t.equal(modeOf(join(dir, 'key')), 0o600)
  t.same(readdirSync(dir), ['key'], 'no temporary file is left')
  writeFileSync(join(dir, 'by-hand'), ' kept\r\n')
  t.equal(await readOrCreateSecret(dir, 'by-hand', make), 'kept')
})

await t.test('an unreadable secret is never replaced', async t => {
  const dir = directory(t)
  writeFileSync(join(dir, 'empty'), ' \n')
  await t.rejects(readOrCreateSecret(dir, 'empty', () => 'new'), { message: /empty is empty\. Restore/ })
  t.equal(readFileSync(join(dir, 'empty'), 'utf8'), ' \n')
  mkdirSync(join(dir, 'directory'))
  await t.rejects(readOrCreateSecret(dir, 'directory', () => 'new'), { message: /cannot be read \(EISDIR\)/ })
})

await t.test('a secret that cannot be stored is not used', async t => {
  const dir = directory(t)
  await t.rejects(readOrCreateSecret(join(dir, 'gone'), 'key', () => 'new'), { code: 'ENOENT' })
  const link = t.intercept(promises, 'link', {
    value: async () => { throw Object.assign(new Error('links are not supported'), { code: 'EPERM' }) }
  })
  syncBuiltinESMExports()
  await t.rejects(readOrCreateSecret(dir, 'key', () => 'new'), { code: 'EPERM' })
  link.restore()
  syncBuiltinESMExports()
  t.same(readdirSync(dir), [])
})
