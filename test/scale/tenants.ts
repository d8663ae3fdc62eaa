import { PgDialect } from 'drizzle-orm/pg-core'
import pg from 'pg'
import { statsQuery } from '../../src/tenant-configs/stats.sql.js'
import { claimQuery } from '../../src/token-watch/token-watch.sql.js'
import { quantile } from '../bench/measure/rounds.js'
import { seedPlaceholders } from '../bench/stage/seed.js'

const TABLES = ['tenant_configs', 'token_watch', 'verified_identities']
const dialect = new PgDialect()

/** Fills a database with so many tenants; returns its figures as rows: name, value. */
export async function measureTenants (url: string, count: number): Promise<string[][]> {
  const began = performance.now()
  await seedPlaceholders(url, count)
  const seconds = (performance.now() - began) / 1000
  const client = new pg.Client(url)
  await client.connect()

  async function size (table: string): Promise<string[]> {
    const { rows: [row] } = await client.query<{ heap: string, indexes: string }>(
      'select pg_table_size($1::regclass) as heap, pg_indexes_size($1::regclass) as indexes', [table]
    )
    const each = (bytes: string | undefined) => (Number(bytes) / count).toFixed(0)
    return [`bytes per tenant of ${table}`, `${each(row?.heap)}, its indexes ${each(row?.indexes)}`]
  }

  /** Median and longest of five times, in a transaction that is rolled back. */
  async function time (name: string, text: string, params: () => unknown[] = () => []): Promise<string[]> {
    const times: number[] = []
    for (let turn = 0; turn < 6; turn++) {
      await client.query('begin')
      const from = performance.now()
      await client.query(text, params())
      if (turn > 0) times.push(performance.now() - from)
      await client.query('rollback')
    }
    return [name, `${quantile(times, 0.5).toFixed(1)} ms, longest ${quantile(times, 1).toFixed(1)} ms`]
  }

  // All tokens are due, as after a long outage.
  const [stats, claim] = [statsQuery, claimQuery(100, 60_000)].map((query) => dialect.sqlToQuery(query))
  const row = `select * from tenant_configs left join token_watch using (tenant_id)
    left join verified_identities using (tenant_id) where tenant_id = $1`
  const list = `select * from tenant_configs where tenant_id collate "C" > $1
    order by tenant_id collate "C" limit 51`
  const random = () => `tenant-${Math.ceil(Math.random() * count)}`
  const figures = [
    ['filled in', `${seconds.toFixed(0)} s`],
    ...await inTurn(TABLES, size),
    await time('one row for the loader', row, () => [random()]),
    await time('GET /admin/configs/stats', stats?.sql ?? '', () => stats?.params ?? []),
    await time('a page of 50', list, () => [random()]),
    await time('claim of 100 due tokens', claim?.sql ?? '', () => claim?.params ?? [])
  ]
  await client.end()
  return figures
}

async function inTurn<T, R> (items: T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  for (const item of items) results.push(await work(item))
  return results
}
