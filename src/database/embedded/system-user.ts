import { spawnSync } from 'node:child_process'

/** Who runs PostgreSQL's programs: empty for the user who runs this process. */
export interface SystemUser { uid?: number, gid?: number }

/**
 * What every program started for PostgreSQL gets: its user, a directory that user can enter, and nothing of our own
 * environment, which may hold secrets and PG* settings meant for another server.
 *
 * @param account who runs it
 * @returns options for `spawn` and its kin
 */
export function spawnOptions (account: SystemUser): SystemUser & { cwd: string, env: Record<string, string> } {
  return { ...account, cwd: '/', env: { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', LC_ALL: 'C', TZ: 'UTC', HOME: '/' } }
}

/**
 * Tries, as that user, whether a path can be entered (a directory) or executed (a file).
 *
 * @param path absolute path
 * @param account who tries
 * @returns true when it can
 */
export function canReach (path: string, account: SystemUser): boolean {
  return spawnSync('test', ['-x', path], spawnOptions(account)).status === 0
}

/* c8 ignore start -- only root gets here, and the tests run as any user; .ci/run runs them as root */
/**
 * The system user that runs PostgreSQL for root, since PostgreSQL refuses to run as root. Made when missing.
 *
 * @param name the user's name
 * @returns its ids
 * @throws when there is no such user and it cannot be made
 */
export function ensureSystemUser (name = 'postgres'): SystemUser {
  const existing = findUser(name)
  if (existing !== undefined) return existing
  const useradd = 'useradd --system --no-create-home --shell /usr/sbin/nologin -- "$0"'
  const { stderr } = spawnSync('sh', ['-c', useradd, name], { ...spawnOptions({}), encoding: 'utf8' })
  // Asked again whatever useradd said: another start may have been faster.
  const user = findUser(name)
  if (user === undefined) {
    throw new Error(`PostgreSQL refuses to run as root, and a user "${name}" to run it could not be created ` +
      `(${stderr.trim()}). Create it, start as another user than root, or set DATABASE_URL.`)
  }
  return user
}

function findUser (name: string): SystemUser | undefined {
  const [uid, gid] = ['-u', '-g'].map(option => Number.parseInt(spawnSync('id', [option, name], { ...spawnOptions({}), encoding: 'utf8' }).stdout))
  return Number.isInteger(uid) && Number.isInteger(gid) ? { uid, gid } : undefined
}
/* c8 ignore stop */
