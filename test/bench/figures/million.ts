import { tokenStatuses } from '../../../src/schemas/statuses.js'
import { query } from '../../helper.js'
import { clock } from '../measure/clock.js'
import { quantile } from '../measure/rounds.js'
import { milliseconds, type Result } from '../report/result.js'
import { seedPlaceholders } from '../stage/seed.js'
import type { Stage } from '../stage/stage.js'
import { originOf } from './http.js'

const TENANTS = 1_000_000
const PAGE = 50
const BASE = '/api/v1/tenant/admin/configs'

/** Leaves few tenants that are off and not onboarded, and few revoked tokens, all among the last ids. */
const RARE = `
  update tenant_configs set is_active = true
  where not is_active and not onboarding_completed and tenant_id < 'tenant-99';
  update token_watch set status = 'revoked' where tenant_id > 'tenant-9999';
  vacuum analyze`

/** Each combination of the list's filters, as a part of a query. */
const combinations = [
  ['', '&is_active=true', '&is_active=false'],
  ['', '&onboarding_completed=true', '&onboarding_completed=false'],
  ['', '&tenant_id=tenant-9'],
  ['', ...tokenStatuses.map((status) => `&token_status=${status}`)]
].reduce((queries, filters) => queries.flatMap((query) => filters.map((filter) => query + filter)), [''])

/** An admin's requests on very many tenants; times of whole requests, one after the other. */
export async function million ({ server, start, authorize }: Stage): Promise<Result[]> {
  const url = await server.database()
  await seedPlaceholders(url, TENANTS)
  for (const statement of RARE.split(';')) await query(url, statement)
  process.stderr.write('.')
  const contender = await start('service-process', { DATABASE_URL: url })
  const origin = await originOf(contender)
  const headers = authorize({ role: 'admin' })

  /** The times of `count` requests, after a tenth as many others. Each answer must contain `expected`. */
  async function measure (path: string, count: number, expected: string): Promise<number[]> {
    const times: number[] = []
    for (let request = -count / 10; request < count; request++) {
      const began = clock()
      const text = await (await fetch(origin + BASE + path, { headers })).text()
      if (request >= 0) times.push(clock() - began)
      if (request >= 0 && !text.includes(expected)) throw new Error(`GET ${path} answered ${text.slice(0, 200)}`)
    }
    return times
  }

  async function p95 (path: string, count: number, expected: string): Promise<number> {
    const times = await measure(path, count, expected)
    process.stderr.write('.')
    return quantile(times, 0.95)
  }

  /** The combination of filters with the longest median. */
  async function slowestFilters (): Promise<string> {
    let slowest = { filters: '', median: 0 }
    for (const filters of combinations) {
      const median = quantile(await measure(`/all?limit=${PAGE}${filters}`, 20, '"next_cursor":'), 0.5)
      if (median > slowest.median) slowest = { filters, median }
    }
    return slowest.filters
  }

  const [last] = await query(
    url,
    'select tenant_id from tenant_configs order by tenant_id collate "C" desc offset $1 limit 1',
    [PAGE]
  )
  const cursor = Buffer.from(String(last?.['tenant_id'])).toString('base64url')
  const all = TENANTS.toLocaleString('en')
  const filters = await slowestFilters()
  const results = [
    result(`GET stats of ${all} tenants, p95`, await p95('/stats', 40, `"total":${TENANTS}`), 50),
    result(`first page of their list (${PAGE}), p95`, await p95(`/all?limit=${PAGE}`, 300, '"next_cursor":"'), 10),
    result('last page of it, p95', await p95(`/all?limit=${PAGE}&cursor=${cursor}`, 300, '"next_cursor":null'), 10),
    result(
      `the slowest of ${combinations.length} combinations of its filters (${filters.slice(1) || 'none'}), p95`,
      await p95(`/all?limit=${PAGE}${filters}`, 300, '"next_cursor":'), 10
    )
  ]
  await contender.end()
  return results
}

function result (figure: string, time: number, limit: number): Result {
  return { figure, ours: milliseconds(time), goal: `≤ ${limit} ms`, met: time <= limit * 1000 }
}
