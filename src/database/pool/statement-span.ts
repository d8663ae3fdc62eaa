import { SpanKind } from '@opentelemetry/api'
import type pg from 'pg'
import { inSpan } from '../../tracing/span.js'
import { withoutDigest } from '../statement.js'
import { Batch, type Answer } from './batch.js'

/**
 * Sends a statement, together with those that begin its transaction, and returns its answer. Its span has the operation
 * and the name of the statement, neither its text nor its values.
 * Source: opentelemetry.io/docs/specs/semconv/database/postgresql
 */
export function sendInSpan (
  client: pg.PoolClient, begin: pg.QueryConfig[], query: pg.QueryConfig
): Promise<Answer> {
  const name = summaryOf(query)
  const attributes = () => ({
    'db.system.name': 'postgresql',
    'db.operation.name': operationOf(query.text),
    'db.query.summary': name,
    'server.address': client.host,
    'server.port': client.port
  })
  return inSpan(name, { kind: SpanKind.CLIENT, attributes }, () =>
    new Promise<Answer>((resolve, reject) => {
      const batch = new Batch(begin, query, (err) => { if (err === null) resolve(batch.answer); else reject(err) })
      client.query(batch)
    }))
}

/** The summaries of the prepared statements, by their names: there are few, and each is computed once. */
const summaries = new Map<string, string>()

/** The name of a prepared statement; the operation of another one, whose name is empty. */
function summaryOf ({ name = '', text }: pg.QueryConfig): string {
  if (name === '') return operationOf(text)
  const known = summaries.get(name)
  if (known !== undefined) return known
  const summary = withoutDigest(name)
  summaries.set(name, summary)
  return summary
}

/** The first word of a statement. */
const operationOf = (text: string) => text.trimStart().split(/\W/, 1).join()
