import { lstat, readFile, realpath, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { SUPERUSER } from './cluster.js'
import { readPidFile } from './postmaster.js'

export const DATABASE = 'whatsapp_tenant_config'

/** Returns the URL of a database of the embedded PostgreSQL. */
export function urlOf (port: number | undefined, database: string, password: string): string {
  // Without `sslmode` a PGSSLMODE in the environment, meant for another server, would apply.
  return `postgres://${SUPERUSER}:${encodeURIComponent(password)}@127.0.0.1:${port}/${database}?sslmode=disable`
}

/**
 * Finds the embedded database of a data directory, as it is: creates, starts and changes nothing.
 *
 * @param dataDir the setting DATA_DIR
 * @returns the URL of one that runs, with its password
 * @throws the error of the system when the files cannot be read
 */
export async function findEmbedded (dataDir: string): Promise<{ is: 'absent' | 'stopped' | 'running', url: string }> {
  const path = join(resolve(dataDir), 'postgres')
  const isAbsent = await lstat(path).then(() => false, (err: NodeJS.ErrnoException) => {
    if (err.code === 'ENOENT') return true
    throw err
  })
  if (isAbsent) return { is: 'absent', url: '' }
  const dir = await realpath(path)
  const { uid, gid } = await stat(dir)
  /* c8 ignore next -- the tests run either as root or as another user; .ci/run runs them as root */
  const user = process.getuid?.() === 0 ? { uid, gid } : {}
  const file = await readPidFile({ dir, user })
  // The port of a dead postmaster may be another program's by now, and would get the password.
  if (file?.isLive !== true) return { is: 'stopped', url: '' }
  const password = await readFile(join(resolve(dataDir), 'postgres-password'), 'utf8')
  return { is: 'running', url: urlOf(file.port, DATABASE, password.trim()) }
}
