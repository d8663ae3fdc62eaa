import { randomUUID } from 'node:crypto'
import { chmod, link, mkdir, open, readFile, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'

/**
 * Makes the local data directory if it is not there.
 *
 * @param dir the setting DATA_DIR, absolute or relative to the working directory
 * @returns its absolute path
 * @throws when it cannot be made, or is something else than a directory
 */
export async function ensureDataDir (dir: string): Promise<string> {
  const path = resolve(dir)
  // Root runs PostgreSQL as another user, who must be able to pass through, though not to list.
  const mode = process.getuid?.() === 0 ? 0o711 : 0o700
  const created = await mkdir(path, { recursive: true, mode })
  // The umask may have taken bits away. A directory that was there already keeps the mode its owner gave it.
  if (created !== undefined) await chmod(path, mode)
  return path
}

/**
 * Reads a secret kept in the data directory, or makes and keeps it. It is made once: starters that race, and a crash at
 * any point, never lead to two values.
 *
 * @param dir the data directory, which must exist
 * @param name the file's name in it
 * @param make makes the value, called only when there is none yet
 * @returns the value, without whitespace around it
 * @throws when the file is empty or unreadable; the error never carries its content
 */
export async function readOrCreateSecret (dir: string, name: string, make: () => string): Promise<string> {
  const path = join(dir, name)
  for (;;) {
    const kept = await read(path)
    if (kept !== undefined) return kept
    await put(dir, path, make())
  }
}

/** Says whether a secret is the one kept in the data directory; false when none is kept there that can be read. */
export async function isStoredSecret (dir: string, name: string, secret: string): Promise<boolean> {
  return await read(join(dir, name)).then((kept) => kept === secret, () => false)
}

async function put (dir: string, path: string, secret: string): Promise<void> {
  const temporary = `${path}.${randomUUID()}`
  try {
    await writeFile(temporary, `${secret}\n`, { mode: 0o600, flag: 'wx', flush: true })
    // Unlike a rename, a link never replaces what another starter has put there first.
    await link(temporary, path).catch((err: NodeJS.ErrnoException) => { if (err.code !== 'EEXIST') throw err })
  } finally {
    await rm(temporary, { force: true })
  }
  // What is sealed with a secret is lost if a power cut takes the file's name away again.
  const directory = await open(dir)
  await directory.sync().finally(() => directory.close())
}

async function read (path: string): Promise<string | undefined> {
  const text = await readFile(path, 'utf8').catch((err: NodeJS.ErrnoException) => {
    if (err.code === 'ENOENT') return undefined
    throw new Error(`${path} cannot be read (${err.code}).`)
  })
  if (text?.trim() === '') throw new Error(`${path} is empty. Restore it from a backup, or delete it to start with a new secret.`)
  return text?.trim()
}
