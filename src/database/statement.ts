import { createHash } from 'node:crypto'
import { is, Param, Placeholder, SQL } from 'drizzle-orm'
import { drizzle } from 'drizzle-orm/node-postgres'
import { PgDialect } from 'drizzle-orm/pg-core'
import pg from 'pg'
import { isoFromPostgres } from '../schemas/timestamps.js'

/** drizzle's query builder, without a connection: `run` of a database or a transaction runs its queries. */
export const builder = drizzle.mock()

const dialect = new PgDialect()

/** A query of the builder that returns plain columns under their names. */
type Built<Row> = PromiseLike<Row[]> & { toSQL: () => { sql: string, params: unknown[] } }

/** A statement, and the type of the rows that it returns. */
export type Statement<Row> = SQL<Row> | Built<Row> | Prepared<Row>

/** A value for each placeholder of a prepared statement. */
export type Values = Record<string, unknown>

/** The database, or a transaction in it. Both methods throw the errors of `toApiError`. */
export interface Queryable {
  /**
   * Runs a statement and returns its rows.
   *
   * @throws when a placeholder has no value
   */
  run: <Row>(statement: Statement<Row>, values?: Values) => Promise<Row[]>
  /** Runs a statement and returns the number of rows that it changed. */
  count: (statement: SQL) => Promise<number>
}

/** Returns the row of a statement that returns exactly one; only a foreign trigger could suppress it. */
export function onlyRow<Row> ([row]: Row[]): Row {
  if (row === undefined) throw new Error('a statement returned no row')
  return row
}

/** A statement that PostgreSQL plans once per connection. */
export interface Prepared<Row> {
  /** Unique for its text. */
  name: string
  text: string
  /** The names of the values for `$1`, `$2` and so on. */
  placeholders: string[]
  /** Carries the type of a row; never set. */
  _row?: Row
}

/**
 * Prepares a query of the builder, or a template, once for all connections: building a query costs several times its
 * execution.
 *
 * @param name the first part of its name in PostgreSQL
 * @throws when the query holds a value in place of a placeholder
 */
export function prepare<Row> (name: string, query: Built<Row> | SQL<Row>): Prepared<Row> {
  const { sql, params } = query instanceof SQL ? dialect.sqlToQuery(query) : query.toSQL()
  const names = params.map(nameOf)
  const placeholders = [...new Set(names)]
  // drizzle numbers each occurrence of a placeholder separately.
  const places = names.map((name) => placeholders.indexOf(name) + 1)
  const text = sql.replace(/\$(\d+)/g, (_, number) => `$${String(places[number - 1])}`)
  return { name: `${name}_${digest(text)}`, text, placeholders }
}

/** Keeps the name apart from that of another version: behind a pooler two versions share the connections. */
const digest = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 16)

/** The name of a prepared statement as `prepare` got it. */
export const withoutDigest = (name: string) => name.replace(/_[0-9a-f]{16}$/, '')

/**
 * Returns the configuration of pg for a statement.
 *
 * @throws when a placeholder has no value: pg would send null
 */
export function toQueryConfig<Row> (statement: Statement<Row>, values: Values = {}): pg.QueryConfig {
  if (statement instanceof SQL) {
    const { sql: text, params } = dialect.sqlToQuery(statement)
    return { text, values: params, types }
  }
  if ('toSQL' in statement) {
    const { sql: text, params } = statement.toSQL()
    return { text, values: params, types }
  }
  const { name, text, placeholders } = statement
  return { name, text, values: placeholders.map((name) => valueOf(values, name)), types }
}

function nameOf (param: unknown): string {
  const placeholder = is(param, Param) ? param.value : param
  if (!is(placeholder, Placeholder)) throw new Error('a prepared statement takes placeholders only')
  return placeholder.name
}

function valueOf (values: Values, name: string): unknown {
  const value = values[name]
  if (value === undefined) throw new Error(`no value for ${name}`)
  return value
}

const types: pg.CustomTypesConfig = {
  getTypeParser: (oid, format) =>
    oid === pg.types.builtins.TIMESTAMPTZ ? isoFromPostgres : pg.types.getTypeParser(oid, format)
}
