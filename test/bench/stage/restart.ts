import { query, until } from '../../helper.js'
import { identify } from './database.js'

/** When PostgreSQL started. */
async function startOf (url: string): Promise<string> {
  return String((await query(url, 'select pg_postmaster_start_time()::text as start'))[0]?.['start'])
}

/** Stops an embedded PostgreSQL, and waits until its supervisor has started it again. */
export async function restartEmbedded (url: string): Promise<void> {
  const [{ postmaster }, former] = await Promise.all([identify(url), startOf(url)])
  process.kill(postmaster, 'SIGINT')
  await until(async () => await startOf(url).then((start) => start !== former, () => false), 60_000)
}
