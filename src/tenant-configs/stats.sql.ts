import { sql, type SQL } from 'drizzle-orm'
import { numberStatuses, tokenStatuses, type NumberStatus, type TokenStatus } from '../schemas/statuses.js'
import { keyCountSources, uncountedKeyIds } from '../vault/key-inspection.js'

export type StatsRow = Record<
  'total' | 'active' | 'inactive' | 'onboarded' | 'pending' |
  'expired' | 'expiring_7d' | 'expiring_30d' | 'no_expiry' | 'missing',
  number
> & {
  token_status: Record<TokenStatus, number>
  number_status: Record<NumberStatus, number>
  /** The number of stored secrets that each key sealed, by its id. */
  keys: Record<string, number>
}

const literal = (text: string) => sql.raw(`'${text}'`)
const listOf = (parts: SQL[]) => sql.join(parts, sql`, `)

/** A time by which tokens expire: the name of their count, and the day, hour and minute of the time. */
const atTime = (name: string, time: SQL) => {
  const beginOf = (unit: string) => sql`date_trunc(${literal(unit)}, ${time}, 'UTC')`
  return { name: sql.identifier(name), time, day: beginOf('day'), hour: beginOf('hour'), minute: beginOf('minute') }
}
type Time = ReturnType<typeof atTime>

const times = [
  atTime('expired', sql`now()`),
  atTime('expired_in_7d', sql`now() + interval '7 days'`),
  atTime('expired_in_30d', sql`now() + interval '30 days'`)
]

/** The counts of `tenant_configs` that are read whole. */
const names = ['total', 'active', 'onboarded', 'no_number', 'no_expiry', 'expires_day']

/** The needed counts, folded and appended. There are very many hours and minutes; only those of `times` are read. */
const counted = sql.join([
  sql`select * from config_counts
    where source = 'tenant_configs' and name in (${listOf(names.map(literal))})`,
  ...times.flatMap(({ day, hour, minute }) => [
    sql`select * from config_counts
      where source = 'tenant_configs' and name = 'expires_hour' and at >= ${day} and at < ${hour}`,
    sql`select * from config_counts
      where source = 'tenant_configs' and name = 'expires_minute' and at >= ${hour} and at < ${minute}`
  ]),
  sql`select * from config_counts where source in ('token_watch', 'phone_numbers')`,
  sql`select * from config_count_changes`
], sql` union all `)

/**
 * Sums the tokens that expired before the minute of a time: on earlier days, then in the hours of its day, and in the
 * minutes of its hour. PostgreSQL evaluates a subquery once, and any other expression once for each row.
 */
const expiredBefore = ({ name, day, hour, minute }: Time) => sql`sum(count) filter (where case name
  when 'expires_day' then at < (select ${day})
  when 'expires_hour' then at >= (select ${day}) and at < (select ${hour})
  when 'expires_minute' then at >= (select ${hour}) and at < (select ${minute}) end) as ${name}`

/** Adds those that expired within the minute. */
const expiredBy = ({ name, time, minute }: Time) => sql`coalesce(sum(${name}), 0)::int + (
  select count(*)::int from tenant_configs
  where access_token is not null and token_expires_at >= ${minute} and token_expires_at <= ${time}) as ${name}`

const sumWhere = (condition: SQL) => sql`coalesce(sum(count) filter (where ${condition}), 0)::int`
const countOf = (source: string, name: string) =>
  sumWhere(sql`source = ${literal(source)} and name = ${literal(name)}`)
const byStatus = (source: string, statuses: readonly string[]) =>
  sql`jsonb_build_object(${listOf(statuses.map((status) => sql`${literal(status)}, ${countOf(source, status)}`))})`

const ofKeys = sql`source in (${listOf(keyCountSources.map(literal))})`

/** The stored secrets by the key that sealed them: every key that was ever in the ring. */
const valuesByKey = sql`(
  select coalesce(jsonb_object_agg(key_id, coalesce(count, 0)), '{}')
  from vault_keys left join (
    select name as key_id, sum(count)::int as count from (
      select name, count from config_counts where ${ofKeys}
      union all select name, count from config_count_changes where ${ofKeys}
      union all select key_id, 1 from (${uncountedKeyIds}) uncounted (key_id)
    ) counted group by name
  ) sums using (key_id)
)`

/**
 * The counts of GET /admin/configs/stats, all from one snapshot. Triggers append the changes of the counts in the
 * transaction of each write, so that they are exact.
 */
export const statsQuery = sql<StatsRow>`
  select total, active, total - active as inactive, onboarded, total - onboarded as pending,
    expired, expired_in_7d - expired as expiring_7d, expired_in_30d - expired as expiring_30d,
    no_expiry, total - no_expiry - expires_day as missing, token_status,
    number_status || jsonb_build_object('none', no_number, 'unknown', total - no_number - known) as number_status,
    ${valuesByKey} as keys
  from (
    select ${listOf(names.map((name) => sql`${countOf('tenant_configs', name)} as ${sql.identifier(name)}`))},
      ${listOf(times.map(expiredBy))},
      ${byStatus('token_watch', tokenStatuses)} as token_status,
      ${byStatus('phone_numbers', numberStatuses)} as number_status,
      ${sumWhere(sql`source = 'phone_numbers' and name <> 'unknown'`)} as known
    from (
      select source, name, sum(count) as count, ${listOf(times.map(expiredBefore))}
      from (${counted}) counted group by source, name
    ) sums
  ) totals`
