import { and, asc, eq, getTableColumns, gt, gte, lte, sql, type SQL, type SQLChunk } from 'drizzle-orm'
import { tenantConfigs as table, tokenWatch, type TenantConfigRow } from '../database/schema/tenant-configs.js'
import { builder, prepare, type Prepared } from '../database/statement.js'
import { secretColumns, writableNames, type SecretColumn, type WritableColumn } from '../schemas/columns.js'
import { numberStatuses, tokenStatuses, type NumberStatus, type TokenStatus } from '../schemas/statuses.js'
import { MASK } from '../schemas/fields.js'

const { placeholder } = sql

/**
 * The entity tag of a row's version (RFC 9110, section 8.8.3), as the header has it. Each write of the row changes its
 * `xmin`; a row that is deleted and created again has another id.
 */
export const etag = sql<string>`format('"%s-%s"', ${table.id}, ${table}.xmin)`

/** The columns of a row with its entity tag. */
export const tagged = { ...getTableColumns(table), etag: etag.as('etag') }

const ofTenant = eq(table.tenant_id, placeholder('tenant_id'))

/** Whether the row has one of the entity tags; null stands for any. */
export const isAmong = (tags: SQLChunk) => sql`(${tags}::text[] is null or ${etag} = any(${tags}::text[]))`

const isMatch = isAmong(placeholder('if_match'))

export const find = prepare('tenant_config_find', builder.select(tagged).from(table).where(ofTenant))

/** The values of `insert` and `update` for all columns that a client may omit. */
export const emptyValues = mapWritable(() => null)

/** Returns no row when the tenant has one. */
export const insert = prepare('tenant_config_insert', builder.insert(table)
  .values({ tenant_id: placeholder('tenant_id'), user_id: placeholder('user_id'), ...mapWritable(placeholder) })
  .onConflictDoNothing({ target: table.tenant_id }).returning(tagged))

/** Writes nothing unless the row matches `if_match`. */
export const setActive = prepare('tenant_config_set_active', builder.update(table)
  .set({ is_active: sql`${placeholder('is_active')}` }).where(and(ofTenant, isMatch)).returning(tagged))

/**
 * Writes the columns in `fields` alone. A changed `waba_id`, `phone_number_id` or `access_token` is unverified.
 * `same_token`: the new token equals that of the ciphertext `stored_token`. Writes nothing unless the row matches
 * `if_match`, nor a token when the row holds another ciphertext by now: that may be of the same token, or of another.
 */
export const update = prepare('tenant_config_update', updateQuery())

function updateQuery () {
  const isWritten = (name: WritableColumn) => sql`${sql.raw(`'${name}'`)} = any(${placeholder('fields')}::text[])`
  const value = (name: WritableColumn) =>
    sql`case when ${isWritten(name)} then ${placeholder(name)} else ${table[name]} end`
  const isChanged = (name: 'waba_id' | 'phone_number_id') =>
    sql`(${isWritten(name)} and ${table[name]} is distinct from ${placeholder(name)})`
  const isCompared = sql`(not ${isWritten('access_token')}
    or ${table.access_token} is not distinct from ${placeholder('stored_token')})`
  const isNewToken = sql`(${isWritten('access_token')} and not ${placeholder('same_token')}::boolean)`
  const isNewKey = sql`(${isWritten('access_token')}
    and split_part(${table.access_token}, '.', 2) <> split_part(${placeholder('access_token')}::text, '.', 2))`
  const isUnverified = sql`(${isNewToken} or ${isChanged('waba_id')} or ${isChanged('phone_number_id')})`
  return builder.update(table).set({
    ...mapWritable(value),
    // The same token keeps its ciphertext, and so its state in `token_watch`, unless another key seals now.
    access_token: sql`case when ${isNewToken} or ${isNewKey} then ${placeholder('access_token')}
      else ${table.access_token} end`,
    token_expires_at: sql`case when ${isWritten('token_expires_at')} then ${placeholder('token_expires_at')}
      when ${isNewToken} then null else ${table.token_expires_at} end`,
    onboarding_completed: sql`${table.onboarding_completed} and not ${isUnverified}`,
    last_verified_at: sql`case when ${isUnverified} then null else ${table.last_verified_at} end`
  }).where(and(ofTenant, isMatch, isCompared)).returning(tagged)
}

const masked = (column: SecretColumn) =>
  sql<string | null>`case when ${table[column]} is not null then ${sql.raw(`'${MASK}'`)} end`.as(column)

/** The columns of a list, with secrets as `****` or null. */
const listed = {
  ...getTableColumns(table),
  ...Object.fromEntries(secretColumns.map((column) => [column, masked(column)]))
}

const bytesOf = ({ tenant_id: id }: Pick<typeof table | typeof tokenWatch, 'tenant_id'>) => sql`${id} collate "C"`

function isBetween (bytes: SQL) {
  return and(gt(bytes, placeholder('after')), gte(bytes, placeholder('from')), lte(bytes, placeholder('to')))
}

/** The rows of a page with allowed flags. In this form an index-only scan of the list's index finds them. */
function matchesFilters () {
  const among = (name: 'is_active' | 'onboarding_completed') =>
    sql`${table[name]} = any(${placeholder(name)}::boolean[])`
  return and(isBetween(bytesOf(table)), among('is_active'), among('onboarding_completed'))
}

/** A page of rows in the byte order of their tenant ids. */
export const list: Prepared<TenantConfigRow> = prepare('tenant_config_list', builder.select(listed).from(table)
  .where(matchesFilters()).orderBy(asc(bytesOf(table))).limit(placeholder('limit')))

/**
 * A page of the rows whose token has a status. Without a name PostgreSQL plans it for its values: it scans the smaller
 * of the two tables, and either scan needs the bounds.
 */
export const listByTokenStatus: Prepared<TenantConfigRow> = prepare('', builder.select(listed).from(tokenWatch)
  .innerJoin(table, eq(bytesOf(table), bytesOf(tokenWatch)))
  .where(and(eq(tokenWatch.status, placeholder('token_status')), isBetween(bytesOf(tokenWatch)), matchesFilters()))
  .orderBy(asc(bytesOf(tokenWatch))).limit(placeholder('limit')))

export const countQuery = sql<{ count: number }>`select count(*)::int as count from ${table}`

export type StatsRow = Record<
  'total' | 'active' | 'inactive' | 'onboarded' | 'pending' |
  'expired' | 'expiring_7d' | 'expiring_30d' | 'no_expiry' | 'missing',
  number
> & { token_status: Record<TokenStatus, number>, number_status: Record<NumberStatus, number> }

const countsByStatus = sql.raw(
  tokenStatuses.map((status) => `'${status}', count(*) filter (where status = '${status}')`).join(', ')
)

const noNumbers = sql.raw(`'${JSON.stringify(Object.fromEntries(numberStatuses.map((status) => [status, 0])))}'::jsonb`)

/** The counts of GET /admin/configs/stats, by five index-only scans. */
export const statsQuery = sql<StatsRow>`
  select rows.total, rows.active, rows.total - rows.active as inactive,
    rows.onboarded, rows.total - rows.onboarded as pending,
    tokens.expired, tokens.expiring_7d, tokens.expiring_30d, tokens.no_expiry, rows.total - tokens.total as missing,
    watch.token_status,
    ${noNumbers} || phones.by_status || jsonb_build_object(
      'none', without.number, 'unknown', rows.total - without.number - phones.known
    ) as number_status
  from (
    select count(*)::int as total, (count(*) filter (where is_active))::int as active,
      (count(*) filter (where onboarding_completed))::int as onboarded
    from tenant_configs
  ) rows, (
    select count(*)::int as total,
      (count(*) filter (where token_expires_at <= now()))::int as expired,
      (count(*) filter (
        where token_expires_at > now() and token_expires_at <= now() + interval '7 days'
      ))::int as expiring_7d,
      (count(*) filter (
        where token_expires_at > now() and token_expires_at <= now() + interval '30 days'
      ))::int as expiring_30d,
      (count(*) filter (where token_expires_at is null))::int as no_expiry
    from tenant_configs where access_token is not null
  ) tokens, (
    select json_build_object(${countsByStatus}) as token_status from token_watch
  ) watch, (
    select count(*)::int as number from tenant_configs where phone_number_id is null
  ) without, (
    select coalesce(jsonb_object_agg(number_status, count), '{}') as by_status,
      coalesce(sum(count) filter (where number_status <> 'unknown'), 0)::int as known
    from (select number_status, count(*)::int as count from phone_numbers group by number_status) counted
  ) phones`

function mapWritable<T> (make: (name: WritableColumn) => T): Record<string, T> {
  return Object.fromEntries(writableNames.map((name) => [name, make(name)]))
}
