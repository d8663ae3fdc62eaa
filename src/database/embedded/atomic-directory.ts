import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/**
 * Makes a directory that others may be making too, so that it is never seen half made: in a temporary directory first,
 * from which `make` puts it in its place in one step that fails when the place is taken. Whoever is second keeps the
 * first one's. What a crash left of earlier attempts is removed.
 *
 * @param path the place
 * @param prefix how the paths of temporary directories begin; nothing else beside them may begin so
 * @param make fills the temporary directory it is given, then puts the result in place
 * @throws what `make` throws, unless the place has been taken meanwhile
 */
export async function makeAtomicDirectory (path: string, prefix: string, make: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = await mkdtemp(prefix)
  try {
    await make(temporary)
  } catch (err) {
    if (!await exists(path)) {
      await remove(temporary)
      throw err
    }
  }
  // Whoever is still at work in one of these will find the place taken.
  const parent = dirname(prefix)
  const leftovers = (await readdir(parent)).filter(name => name.startsWith(basename(prefix)))
  for (const name of leftovers) await remove(join(parent, name))
}

/**
 * @param path any path
 * @returns true when it leads to something; a link to nothing does not
 */
export async function exists (path: string): Promise<boolean> {
  return await stat(path).then(() => true, () => false)
}

// The retries are for programs that outlived their starter and still write into it.
async function remove (path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 5 })
}
