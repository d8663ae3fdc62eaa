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
export async function sendInSpan (
  client: pg.PoolClient, begin: pg.QueryConfig[], query: pg.QueryConfig
): Promise<Answer> {
  // The name is empty for a statement that is not prepared.
  const name = withoutDigest(query.name ?? '') || operationOf(query.text)
  const attributes = () => ({
    'db.system.name': 'postgresql',
    'db.operation.name': operationOf(query.text),
    'db.query.summary': name,
    'server.address': client.host,
    'server.port': client.port
  })
  return await inSpan(name, { kind: SpanKind.CLIENT, attributes }, async () =>
    await new Promise<Answer>((resolve, reject) => {
      const batch = new Batch(begin, query, (err) => { if (err === null) resolve(batch.answer); else reject(err) })
      client.query(batch)
    }))
}

/** The first word of a statement. */
const operationOf = (text: string) => text.trimStart().split(/\W/, 1).join()
