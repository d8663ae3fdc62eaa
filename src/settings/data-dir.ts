import { randomUUID } from 'node:crypto'
import { chmod, link, mkdir, open, readFile, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'

/**
 * Makes the local data directory if it does not exist.
 *
 * @param dir the setting DATA_DIR, absolute or relative to the working directory
 * @returns its absolute path
 * @throws when the directory cannot be made, or the path is no directory
 */
export async function ensureDataDir (dir: string): Promise<string> {
  const path = resolve(dir)
  // Root runs PostgreSQL as another user: that user must traverse the directory, and need not list it.
  const mode = process.getuid?.() === 0 ? 0o711 : 0o700
  const created = await mkdir(path, { recursive: true, mode })
  // The umask may have cleared bits. A directory that existed keeps its mode.
  if (created !== undefined) await chmod(path, mode)
  return path
}

/**
 * Reads a secret of the data directory, or creates it. Concurrent starts and a crash at any point yield one value.
 *
 * @param dir the data directory, which must exist
 * @param name the name of the secret's file
 * @param make generates the value; called only when the file does not exist
 * @returns the value, without whitespace around it
 * @throws when the file is empty or unreadable; the error never holds its content
 */
export async function readOrCreateSecret (dir: string, name: string, make: () => string): Promise<string> {
  const path = join(dir, name)
  for (;;) {
    const stored = await readSecret(path)
    if (stored !== undefined) return stored
    await storeSecret(dir, path, make())
  }
}

/** Whether a secret is the stored one of the data directory; false when that is missing or unreadable. */
export async function isStoredSecret (dir: string, name: string, secret: string): Promise<boolean> {
  return await readSecret(join(dir, name)).then((stored) => stored === secret, () => false)
}

async function storeSecret (dir: string, path: string, secret: string): Promise<void> {
  const temporary = `${path}.${randomUUID()}`
  try {
    await writeFile(temporary, `${secret}\n`, { mode: 0o600, flag: 'wx', flush: true })
    // Unlike a rename, a link never replaces the file of another start.
    await link(temporary, path).catch((err: NodeJS.ErrnoException) => { if (err.code !== 'EEXIST') throw err })
  } finally {
    await rm(temporary, { force: true })
  }
  // Without this a power cut may remove the file's name, and with the secret all that it sealed.
  const directory = await open(dir)
  await directory.sync().finally(() => directory.close())
}

async function readSecret (path: string): Promise<string | undefined> {
  const text = await readFile(path, 'utf8').catch((err: NodeJS.ErrnoException) => {
    if (err.code === 'ENOENT') return undefined
    throw new Error(`${path} cannot be read (${err.code}).`)
  })
  if (text?.trim() === '') {
    throw new Error(`${path} is empty. Restore it from a backup, or delete it to start with a new secret.`)
  }
  return text?.trim()
}
