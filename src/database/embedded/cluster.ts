import { execFile } from 'node:child_process'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { chown, readlink, realpath, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { readOrCreateSecret } from '../../settings/data-dir.js'
import { exists, makeAtomicDirectory } from './atomic-directory.js'
import { ensureSharedDir, findPackagedBinaries, prepareBinaries } from './binaries.js'
import { canReach, ensureSystemUser, spawnOptions, type SystemUser } from './system-user.js'

/** A PostgreSQL data directory, and the values to run it. */
export interface Cluster {
  dir: string
  /** Owns the directory and runs PostgreSQL. */
  user: SystemUser
  /** The path of the program. */
  postgres: string
  password: string
  logFile: string
}

export const SUPERUSER = 'postgres'

/**
 * Finds the files of the embedded database in the data directory, or creates them. Neither starts nor stops PostgreSQL.
 *
 * @param dataDir the absolute path of the data directory, which must exist
 * @param info logs the path of the files when it is outside of the data directory
 * @throws when a file is missing, unreachable or unreadable; no error holds the password
 */
export async function ensureCluster (dataDir: string, info: (message: string) => void): Promise<Cluster> {
  const path = join(dataDir, 'postgres')
  const password = await readOrCreateSecret(dataDir, 'postgres-password', () => randomBytes(24).toString('base64url'))
  const isNew = !await exists(path)
  /* c8 ignore start -- the tests run either as root or as another user; .ci/run runs them as root */
  const user = process.getuid?.() !== 0 ? {} : isNew ? ensureSystemUser() : await readOwner(path)
  /* c8 ignore stop */
  const { postgres, initdb } = await prepareBinaries(await findPackagedBinaries(), user)
  if (isNew) await createCluster(path, password, user, initdb, info)
  const dir = await realpath(path)
  if (!canReach(dir, user)) {
    throw new Error(`User ${user.uid} who owns ${dir} cannot enter it: ` +
      'let others pass through the directories above it (chmod o+x).')
  }
  return { dir, user, postgres, password, logFile: join(dataDir, 'postgres.log') }
}

/* c8 ignore start -- only root gets here, and the tests run as any user; .ci/run runs them as root */
async function readOwner (path: string): Promise<SystemUser> {
  const { uid, gid } = await stat(path)
  return { uid, gid }
}
/* c8 ignore stop */

async function createCluster (
  path: string, password: string, user: SystemUser, initdb: string, info: (message: string) => void
): Promise<void> {
  const missingTarget = await readlink(path).catch(() => undefined)
  if (missingTarget !== undefined) {
    throw new Error(`${path} leads to ${missingTarget}, which is gone. ` +
      'Restore that, or delete the link to start with an empty database.')
  }
  if (canReach(dirname(path), user)) {
    await makeAtomicDirectory(path, `${path}.new-`, async (temporary) => {
      await rename(await runInitdb(temporary, password, user, initdb), path)
    })
    return
  }
  /* c8 ignore start -- only root gets here, and the tests run as any user; .ci/run runs them as root */
  const shared = await ensureSharedDir()
  const pathHash = createHash('sha256').update(path).digest('hex').slice(0, 16)
  await makeAtomicDirectory(path, join(shared, `${pathHash}.new-`), async (temporary) => {
    const home = join(shared, randomUUID())
    await rename(await runInitdb(temporary, password, user, initdb), home)
    try {
      await symlink(home, path)
    } catch (err) {
      await rm(home, { recursive: true })
      throw err
    }
    info(`PostgreSQL does not run as root, and the user who runs it cannot enter ${dirname(path)}: ` +
      `its files are in ${home}.`)
  })
}
/* c8 ignore stop */

async function runInitdb (
  temporary: string, password: string, { uid, gid }: SystemUser, initdb: string
): Promise<string> {
  const passwordFile = join(temporary, 'password')
  await writeFile(passwordFile, password, { mode: 0o600 })
  /* c8 ignore start -- only root runs it as another user, and the tests run as any user; .ci/run runs them as root */
  if (uid !== undefined && gid !== undefined) {
    await chown(passwordFile, uid, gid)
    await chown(temporary, uid, gid)
  }
  /* c8 ignore stop */
  const dir = join(temporary, 'data')
  await promisify(execFile)(initdb, [
    '-D', dir, '--no-instructions', `--username=${SUPERUSER}`, `--pwfile=${passwordFile}`, '--auth=scram-sha-256',
    '--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'
  ], spawnOptions({ uid, gid }))
  return dir
}
