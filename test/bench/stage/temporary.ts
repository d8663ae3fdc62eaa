import { chmod, mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A data directory that others can enter, as root's PostgreSQL must, and a function that deletes it. */
export async function temporaryDir (): Promise<{ dir: string, remove: () => Promise<void> }> {
  const dir = await realpath(await mkdtemp(join(tmpdir(), 'wtc-bench-')))
  await chmod(dir, 0o755)
  return { dir, remove: async () => { await rm(dir, { recursive: true, force: true }) } }
}
