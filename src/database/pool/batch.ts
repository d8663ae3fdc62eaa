import pg from 'pg'
import utils from 'pg/lib/utils'

// The types of `pg` lack it.
declare module 'pg' {
  interface Connection {
    /** The text of each statement that is prepared on the connection, by its name. */
    parsedStatements: Record<string, string | undefined>
  }
}

/** The answer to a statement: its rows, and how many it returned or changed. */
export type Answer = Pick<pg.QueryResult, 'rows'> & { count: number }

/** How the rows of a statement are read. */
interface RowShape {
  columns: Array<{ name: string, parse: (text: string) => unknown }>
  /** A copy of it is faster than an object that grows by each column. */
  empty: Record<string, null>
}

const NO_COLUMNS: RowShape = { columns: [], empty: {} }

/** The shapes of the prepared statements of each connection. PostgreSQL refuses a statement whose columns change. */
const shapesOf = new WeakMap<pg.Connection, Map<string, RowShape>>()

interface Part extends pg.QueryConfig {
  name: string
  values: Array<string | Buffer | null>
  types: pg.CustomTypesConfig
  shape: RowShape
  answer: Answer
}

/**
 * Statements that PostgreSQL executes in one transaction, in one round trip: without BEGIN a transaction ends at the
 * Sync message. `pg` has no query for that. It also describes the rows of a prepared statement at each execution; here
 * PostgreSQL describes them once for each connection.
 * Source: postgresql.org/docs/current/protocol-flow.html, "Pipelining"
 */
export class Batch implements pg.Submittable {
  /** The client of `pg` wraps it for its timeout. */
  callback: (err: Error | null) => void
  readonly #parts: Part[]
  readonly #last: Part
  #index = 0
  #shapes = new Map<string, RowShape>()

  /**
   * @param callback gets null once PostgreSQL has executed all; else the first error, and PostgreSQL has undone all
   * @throws for a value that `pg` cannot convert
   */
  constructor (begin: pg.QueryConfig[], last: pg.QueryConfig, callback: (err: Error | null) => void) {
    this.#last = toPart(last)
    this.#parts = [...begin.map(toPart), this.#last]
    this.callback = callback
  }

  /** The answer to the last statement. */
  get answer (): Answer { return this.#last.answer }

  /** The client stores name and text of the current statement once PostgreSQL has prepared it. */
  get name (): string { return this.#current.name }

  get text (): string { return this.#current.text }

  submit (connection: pg.Connection): void {
    this.#shapes = shapesOf.get(connection) ?? new Map<string, RowShape>()
    shapesOf.set(connection, this.#shapes)
    connection.stream.cork()
    for (const part of this.#parts) {
      const { name, text, values } = part
      if (connection.parsedStatements[name] === undefined) connection.parse({ name, text, types: [] }, true)
      connection.bind({ statement: name, values }, true)
      const shape = this.#shapes.get(name)
      if (shape === undefined) connection.describe({ type: 'P' }, true)
      else part.shape = shape
      connection.execute(null, true)
    }
    connection.sync()
    connection.stream.uncork()
  }

  handleRowDescription ({ fields }: { fields: pg.FieldDef[] }): void {
    const { types } = this.#current
    this.#current.shape = {
      columns: fields.map(({ name, dataTypeID }) => ({ name, parse: types.getTypeParser(dataTypeID, 'text') })),
      empty: Object.fromEntries(fields.map(({ name }) => [name, null]))
    }
  }

  handleDataRow ({ fields }: { fields: Array<string | null> }): void {
    const { shape: { columns, empty }, answer } = this.#current
    const row: Record<string, unknown> = { ...empty }
    columns.forEach(({ name, parse }, i) => {
      const text = fields[i]
      if (text != null) row[name] = parse(text)
    })
    answer.rows.push(row)
  }

  handleCommandComplete ({ text }: { text: string }): void {
    const { name, shape, answer } = this.#current
    answer.count = Number(text.slice(text.lastIndexOf(' ') + 1))
    if (name !== '') this.#shapes.set(name, shape)
    this.#index++
  }

  handleError (err: Error): void { this.callback(err) }

  handleReadyForQuery (): void { this.callback(null) }

  /** The statement that PostgreSQL executes; the last one also when it has executed all. */
  get #current (): Part { return this.#parts[this.#index] ?? this.#last }
}

function toPart ({ name = '', text, values = [], types = pg.types }: pg.QueryConfig): Part {
  const converted = values.map((value: unknown) => utils.prepareValue(value))
  return { name, text, types, values: converted, shape: NO_COLUMNS, answer: { rows: [], count: 0 } }
}
