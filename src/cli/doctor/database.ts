import { isRemoteWithoutTls, withReader } from '../../database/connection.js'
import { findEmbedded } from '../../database/embedded/access.js'
import { pendingMigrations } from '../../database/migrations/migrations.js'
import { describeForTerminal } from '../../logger.js'
import type { Env } from '../../settings/env.js'
import { failed, notChecked, ok, warning, type Finding } from './checks.js'

const START = 'Start the service, then run this again.'

/** A finding about the database. `url` is set if the tables can be read. */
export interface DatabaseFinding { database: Finding, url: string | null }

/** Checks that the database can be reached, by each of its settings, and has all migrations. Changes nothing in it. */
export async function checkDatabase (env: Env): Promise<DatabaseFinding> {
  const { DATABASE_URL: url = 'embedded', DATABASE_DIRECT_URL: directUrl } = env
  if (url === 'embedded') return await checkEmbedded(env)
  let pending: string[] = []
  for (const [name, target] of [['DATABASE_DIRECT_URL', directUrl], ['DATABASE_URL', url]] as const) {
    if (target === undefined) continue
    try {
      pending = await withReader(target, pendingMigrations, { setting: name })
    } catch (err) {
      const fix = `Start the database, or correct ${name}.`
      return { database: failed(`${name}: ${describeForTerminal(err)}`, fix), url: null }
    }
  }
  if (pending.length > 0) return { database: lacking(pending, env.MIGRATE_ON_START), url: null }
  const open = Object.entries({ DATABASE_URL: url, DATABASE_DIRECT_URL: directUrl })
    .flatMap(([name, target]) => target !== undefined && isRemoteWithoutTls(target) ? name : [])
  const detail = 'The database answers, and has all migrations.'
  const database = open.length === 0
    ? ok(detail)
    : warning(`${detail} It is on another machine, without TLS: ${open.join(', ')}.`, 'Add ?sslmode=verify-full there.')
  return { database, url }
}

/** Reads the embedded database only while the service runs it: to start it could make a start of the service fail. */
async function checkEmbedded ({ DATA_DIR }: Env): Promise<DatabaseFinding> {
  try {
    const { is, url } = await findEmbedded(DATA_DIR)
    if (is !== 'running') {
      const detail = is === 'absent'
        ? 'There is no embedded database yet: the first start creates it.'
        : 'The embedded database does not run, and is not started for a check.'
      return { database: notChecked(detail, START), url: null }
    }
    const pending = await withReader(url, pendingMigrations)
    if (pending.length > 0) return { database: lacking(pending, true), url: null }
    return { database: ok('The embedded database answers, and has all migrations.'), url }
  } catch (err) {
    const fix = 'Run this as the user that runs the service, with the same DATA_DIR.'
    const isOfSystem = err instanceof Error && 'syscall' in err && 'code' in err
    const detail = isOfSystem ? `The files in DATA_DIR cannot be read (${err.code}).` : describeForTerminal(err)
    return { database: failed(detail, fix), url: null }
  }
}

function lacking (pending: string[], isMigratedAtStart: boolean): Finding {
  const detail = `The database lacks the migrations ${pending.join(', ')}.`
  return isMigratedAtStart
    ? warning(`${detail} The next start applies them.`, START)
    : failed(detail, 'Run `npm run db:migrate`, or set MIGRATE_ON_START=true.')
}
