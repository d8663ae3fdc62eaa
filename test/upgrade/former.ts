import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** A build of another commit. */
export interface Former { dir: string, remove: () => Promise<void> }

/**
 * Checks a commit out into a new directory, installs its dependencies and builds it.
 *
 * @throws Error that says what to do when the clone does not have the commit
 */
export async function buildFormer (commit: string): Promise<Former> {
  await run('git', ['cat-file', '-e', `${commit}^{commit}`]).catch(() => {
    throw new Error(`This clone has no commit ${commit}. A shallow clone gets it by: git fetch --unshallow`)
  })
  const parent = await mkdtemp(join(tmpdir(), 'wtc-former-'))
  const dir = join(parent, 'former')
  const remove = async () => {
    await run('git', ['worktree', 'remove', '--force', dir]).catch(() => {})
    await rm(parent, { recursive: true, force: true })
  }
  try {
    await run('git', ['worktree', 'add', '--detach', dir, commit])
    await run('npm', ['ci', '--prefer-offline', '--no-audit', '--no-fund'], { cwd: dir })
  } catch (err) {
    await remove()
    throw err
  }
  return { dir, remove }
}
