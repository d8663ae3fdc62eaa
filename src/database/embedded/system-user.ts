import { spawnSync } from 'node:child_process'

/** The user that runs PostgreSQL's programs; empty for the user of this process. */
export interface SystemUser { uid?: number, gid?: number }

const ENV = { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin', LC_ALL: 'C', TZ: 'UTC', HOME: '/' }

/**
 * Returns the options of `spawn` for PostgreSQL's programs: the user, and a directory that it can enter. The
 * environment of this process is left out: it may hold secrets, and PG* variables for another server.
 */
export function spawnOptions (user: SystemUser): SystemUser & { cwd: string, env: Record<string, string> } {
  return { ...user, cwd: '/', env: ENV }
}

/** Whether a user can enter a directory, or execute a file. Takes an absolute path. */
export function canReach (path: string, user: SystemUser): boolean {
  return spawnSync('test', ['-x', path], spawnOptions(user)).status === 0
}

/* c8 ignore start -- only root gets here, and the tests run as any user; .ci/run runs them as root */
/**
 * Finds the system user that runs PostgreSQL for root, or creates it: PostgreSQL refuses to run as root.
 *
 * @throws when the user does not exist and cannot be created
 */
export function ensureSystemUser (name = 'postgres'): SystemUser {
  const existing = findUser(name)
  if (existing !== undefined) return existing
  const useradd = 'useradd --system --no-create-home --shell /usr/sbin/nologin -- "$0"'
  const { stderr } = spawnSync('sh', ['-c', useradd, name], { ...spawnOptions({}), encoding: 'utf8' })
  // useradd also fails when a concurrent start has just created the user.
  const user = findUser(name)
  if (user === undefined) {
    throw new Error(`PostgreSQL refuses to run as root, and a user "${name}" to run it could not be created ` +
      `(${stderr.trim()}). Create it, start as another user than root, or set DATABASE_URL.`)
  }
  return user
}

function findUser (name: string): SystemUser | undefined {
  const [uid, gid] = ['-u', '-g'].map((option) => {
    const { stdout } = spawnSync('id', [option, name], { ...spawnOptions({}), encoding: 'utf8' })
    return Number.parseInt(stdout)
  })
  return Number.isInteger(uid) && Number.isInteger(gid) ? { uid, gid } : undefined
}
/* c8 ignore stop */
