import { DrizzleQueryError, is, Param, Placeholder } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import pg from 'pg'
import { isoFromPostgres } from './schema.js'

/** drizzle over a pool. */
export type PooledDb = NodePgDatabase & { $client: pg.Pool }

/**
 * Prepares what drizzle wrote, once, and has pg alone run it: drizzle's own way through a prepared statement takes longer than pg's.
 * Takes a name of its own for the statement, and a query that returns plain columns under their names. Returns how to execute it
 * with a value for each placeholder; that throws a DrizzleQueryError, as drizzle does, but without values.
 */
export function prepared<Row extends pg.QueryResultRow> (db: PooledDb, name: string, query: PromiseLike<Row[]> & { toSQL: () => { sql: string, params: unknown[] } }) {
  const { sql, params } = query.toSQL()
  const names = params.map(nameOf)
  const distinct = [...new Set(names)]
  // drizzle numbers a placeholder anew wherever it stands.
  const places = names.map((name) => distinct.indexOf(name) + 1)
  const text = sql.replace(/\$(\d+)/g, (_, number) => `$${String(places[number - 1])}`)
  return {
    async execute (values: Record<string, unknown>): Promise<Row[]> {
      const { rows } = await db.$client.query<Row>({ name, text, values: distinct.map((name) => valueOf(values, name)), types })
        .catch((err: Error) => { throw new DrizzleQueryError(text, [], err) })
      return rows
    }
  }
}

function nameOf (param: unknown): string {
  const placeholder = is(param, Param) ? param.value : param
  if (!is(placeholder, Placeholder)) throw new Error('a prepared statement takes placeholders only')
  return placeholder.name
}

/** The value for a placeholder. Throws when it was forgotten: to pg that would be null. */
function valueOf (values: Record<string, unknown>, name: string): unknown {
  const value = values[name]
  if (value === undefined) throw new Error(`no value for ${name}`)
  return value
}

const types: pg.CustomTypesConfig = {
  getTypeParser: (oid, format) => oid === pg.types.builtins.TIMESTAMPTZ ? isoFromPostgres : pg.types.getTypeParser(oid, format)
}
