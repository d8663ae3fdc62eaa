import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { scanner } from './canaries.js'
import { query } from '../helper.js'

/** The log of PostgreSQL, in the directory of its files. */
export const LOG = 'postgres.log'
/** A parameter that is nothing else than a canary sent as an id, the end of a range of ids, or an entity tag. */
const LOOKED_UP = /'(?:x;)?(?:\{"\\")?Cnry\w{12}\.(?:misplaced|if_match)\.\w{12}\.Cnry\w{20}\u{10ffff}*(?:\\""\})?'/gu

/** The log of PostgreSQL so far. */
export const logIn = (dir: string): string => readFileSync(join(dir, LOG), 'utf8')

/**
 * The log without the parameters that are the id of a tenant, or an entity tag: it shows these as a client sent them,
 * since they are looked up. They are stored nowhere.
 */
export const withoutLookups = (log: string): string => log.replaceAll(LOOKED_UP, "''")

/** Every row of every table, as text. */
export async function tablesOf (url: string): Promise<string> {
  const tables = await query(
    url,
    "select format('%I.%I', schemaname, tablename) as name from pg_tables where schemaname not in ('pg_catalog', " +
      "'information_schema')"
  )
  const rows = await Promise.all(
    tables.map(async ({ name }) => await query(url, `select t::text as row from ${name} t`))
  )
  return JSON.stringify(rows)
}

/** The files of a directory in which a scanner finds a secret. */
export function inFiles (scan: ReturnType<typeof scanner>, dir: string): string[] {
  const files = readdirSync(dir, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(join(dir, name)).isFile())
  return files.filter((name) => scan(name, readFileSync(join(dir, name))).length > 0).sort()
}
