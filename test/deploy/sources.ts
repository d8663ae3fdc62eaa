import { execFileSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

/** A new directory that each user can enter; removed when the test ends. */
export function directory (t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'deploy-'))
  chmodSync(dir, 0o755)
  t.teardown(() => { rmSync(dir, { recursive: true, force: true }) })
  return dir
}

/** Copies what a fresh checkout has, with the changes that are not committed yet, and returns the directory. */
export function checkout (t: Test): string {
  const dir = directory(t)
  const list = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'])
  const paths = list.toString().split('\0').filter((path) => path !== '' && existsSync(path))
  for (const path of paths) cpSync(path, join(dir, path))
  return dir
}
