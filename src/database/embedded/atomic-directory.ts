import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/**
 * Makes a directory atomically, although other processes may make it at the same time. `make` fills a temporary
 * directory and renames it, which fails when `path` exists; then the existing directory is kept. Leftovers of crashed
 * attempts are removed.
 *
 * @param prefix of the paths of temporary directories; no other path may have it
 * @throws what `make` throws, unless `path` exists by then
 */
export async function makeAtomicDirectory (
  path: string, prefix: string, make: (temporary: string) => Promise<void>
): Promise<void> {
  const temporary = await mkdtemp(prefix)
  try {
    await make(temporary)
  } catch (err) {
    if (!await exists(path)) {
      await remove(temporary)
      throw err
    }
  }
  // A process that still fills one of these will find that `path` exists.
  const parent = dirname(prefix)
  const leftovers = (await readdir(parent)).filter(name => name.startsWith(basename(prefix)))
  for (const name of leftovers) await remove(join(parent, name))
}

/** Whether a path exists; a dangling link does not. */
export async function exists (path: string): Promise<boolean> {
  return await stat(path).then(() => true, () => false)
}

// The retries are for child processes that outlived their parent and still write into the directory.
async function remove (path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 5 })
}
