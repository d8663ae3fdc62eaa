import {
  and, asc, eq, getTableColumns, gt, gte, lte, sql, type Column, type SQL, type SQLChunk
} from 'drizzle-orm'
import { tenantConfigs as table, tokenWatch, type TenantConfigRow } from '../database/schema/tenant-configs.js'
import { builder, prepare, type Prepared } from '../database/statement.js'
import { secretColumns, writableNames, type SecretColumn, type WritableColumn } from '../schemas/columns.js'
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

/** Finds the row, and locks it as an update of it does. */
export const findLocked = prepare('tenant_config_find_locked',
  builder.select(tagged).from(table).where(ofTenant).for('no key update'))

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
 * `if_match`, nor a token when the row holds another ciphertext by now: that may be of the same token or of another.
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

/** A page of rows in the byte order of their tenant ids. */
export const list: Prepared<TenantConfigRow> = prepare('tenant_config_list', builder.select(listed).from(table)
  .where(isBetween(bytesOf(table))).orderBy(asc(bytesOf(table))).limit(placeholder('limit')))

/** A page of the rows with one of some pairs of flags. */
export const listByFlags = filtered('tenant_config_list_flags', table, [table.is_active, table.onboarding_completed])

/** A page of those whose token has a status. */
export const listByTokenStatus = filtered(
  'tenant_config_list_status', tokenWatch, [tokenWatch.tenant_is_active, tokenWatch.tenant_is_onboarded],
  eq(tokenWatch.status, placeholder('token_status'))
)

/**
 * Finds the tenants of a page in a table that has their flags. An index has the tenants of each pair of flags in their
 * order, so that the page is among the first tenants of each pair.
 */
function filtered (
  name: string, source: typeof table | typeof tokenWatch, [isActive, isOnboarded]: [Column, Column], isWanted?: SQL
): Prepared<TenantConfigRow> {
  const isOfPair = sql`(${isActive}, ${isOnboarded}) = (pair.is_active, pair.onboarding_completed)`
  const ofPair = builder.select({ tenant_id: source.tenant_id }).from(source)
    .where(and(isWanted, isOfPair, isBetween(bytesOf(source))))
    .orderBy(asc(bytesOf(source))).limit(placeholder('limit'))
  const found = sql`select page.tenant_id
    from unnest(${placeholder('is_active')}::boolean[], ${placeholder('onboarding_completed')}::boolean[])
      as pair (is_active, onboarding_completed), lateral ${ofPair} as page
    order by page.tenant_id collate "C" limit ${placeholder('limit')}`
  return prepare(name, builder.select(listed).from(table)
    .where(sql`${table.tenant_id} = any(array(${found}))`).orderBy(asc(bytesOf(table))))
}

export const countQuery = sql<{ count: number }>`select count(*)::int as count from ${table}`

function mapWritable<T> (make: (name: WritableColumn) => T): Record<string, T> {
  return Object.fromEntries(writableNames.map((name) => [name, make(name)]))
}
