import { and, asc, eq, getTableColumns, gt, gte, lte, sql, type SQL } from 'drizzle-orm'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { tokenStatuses } from '../schemas/statuses.js'
import { prepared, type PooledDb } from '../database/prepared.js'
import { tenantConfigs as table, tokenWatch } from '../database/schema.js'

const { placeholder } = sql

/** The columns a client may write, in the order of the table, with nothing in them. */
export const emptyWritableColumns = {
  waba_id: null,
  phone_number_id: null,
  access_token: null,
  fb_app_id: null,
  fb_app_secret: null,
  callback_url: null,
  redirect_url: null,
  verify_token: null,
  token_expires_at: null,
  refresh_token: null
}

export type WritableColumn = keyof typeof emptyWritableColumns

/** Every statement on `tenant_configs`, prepared once: building one costs several times what running it does. */
export function tenantConfigStatements (db: PooledDb) {
  const ofTenant = eq(table.tenant_id, placeholder('tenant_id'))
  return {
    find: prepared(db, 'tenant_config_find', db.select().from(table).where(ofTenant)),
    insert: insert(db),
    update: update(db),
    setActive: prepared(db, 'tenant_config_set_active', db.update(table).set({ is_active: sql`${placeholder('is_active')}` }).where(ofTenant).returning()),
    list: list(db),
    listByTokenStatus: listByTokenStatus(db)
  }
}

/** Makes a row; returns none when the tenant has one. */
function insert (db: PooledDb) {
  const columns = ['tenant_id', 'user_id', ...Object.keys(emptyWritableColumns)]
  const values = Object.fromEntries(columns.map((name) => [name, placeholder(name)]))
  return prepared(db, 'tenant_config_insert', db.insert(table).values({ tenant_id: placeholder('tenant_id'), ...values })
    .onConflictDoNothing({ target: table.tenant_id }).returning())
}

/**
 * Writes the columns named in `fields` and leaves the others.
 * Another identity is unproven: a changed `waba_id`, `phone_number_id` or `access_token` takes the proof away. Only who opened
 * the stored token can say that the new one is the `same_token`, and only of the very ciphertext that was opened, `held_token`.
 */
function update (db: PooledDb) {
  const isWritten = (name: WritableColumn) => sql`${sql.raw(`'${name}'`)} = any(${placeholder('fields')}::text[])`
  const value = (name: WritableColumn) => sql`case when ${isWritten(name)} then ${placeholder(name)} else ${table[name]} end`
  const isChanged = (name: 'waba_id' | 'phone_number_id') => sql`(${isWritten(name)} and ${table[name]} is distinct from ${placeholder(name)})`
  const isSameToken = sql`(${placeholder('same_token')}::boolean and ${table.access_token} is not distinct from ${placeholder('held_token')})`
  const isNewToken = sql`(${isWritten('access_token')} and not ${isSameToken})`
  const isNewKey = sql`(${isWritten('access_token')} and split_part(${table.access_token}, '.', 2) <> split_part(${placeholder('access_token')}::text, '.', 2))`
  const isUnverified = sql`(${isNewToken} or ${isChanged('waba_id')} or ${isChanged('phone_number_id')})`
  return prepared(db, 'tenant_config_update', db.update(table).set({
    waba_id: value('waba_id'),
    phone_number_id: value('phone_number_id'),
    // The same token again is left as it is sealed, so that what is known of it stays so; unless another key seals by now.
    access_token: sql`case when ${isNewToken} or ${isNewKey} then ${placeholder('access_token')} else ${table.access_token} end`,
    fb_app_id: value('fb_app_id'),
    fb_app_secret: value('fb_app_secret'),
    callback_url: value('callback_url'),
    redirect_url: value('redirect_url'),
    verify_token: value('verify_token'),
    refresh_token: value('refresh_token'),
    token_expires_at: sql`case when ${isWritten('token_expires_at')} then ${placeholder('token_expires_at')}
      when ${isNewToken} then null else ${table.token_expires_at} end`,
    onboarding_completed: sql`${table.onboarding_completed} and not ${isUnverified}`,
    last_verified_at: sql`case when ${isUnverified} then null else ${table.last_verified_at} end`
  }).where(eq(table.tenant_id, placeholder('tenant_id'))).returning())
}

const { access_token, fb_app_secret, verify_token, refresh_token } = table
const masked = (column: typeof access_token | typeof fb_app_secret | typeof verify_token | typeof refresh_token) =>
  sql<string | null>`case when ${column} is not null then '****' end`

/** What a list shows of a row: all, with what stands for its secrets. */
const listed = {
  ...getTableColumns(table),
  access_token: masked(access_token),
  fb_app_secret: masked(fb_app_secret),
  verify_token: masked(verify_token),
  refresh_token: masked(refresh_token)
}

const bytesOf = ({ tenant_id: id }: Pick<typeof table | typeof tokenWatch, 'tenant_id'>) => sql`${id} collate "C"`

function isBetween (bytes: SQL) {
  return and(gt(bytes, placeholder('after')), gte(bytes, placeholder('from')), lte(bytes, placeholder('to')))
}

/** Those rows of a page whose flags are among the wanted ones. In this form the index of the list alone tells which they are. */
function isWanted () {
  const among = (name: 'is_active' | 'onboarding_completed') => sql`${table[name]} = any(${placeholder(name)}::boolean[])`
  return and(isBetween(bytesOf(table)), among('is_active'), among('onboarding_completed'))
}

/** A page of rows in the byte order of their tenant ids. */
function list (db: NodePgDatabase) {
  return db.select(listed).from(table).where(isWanted())
    .orderBy(asc(bytesOf(table))).limit(placeholder('limit')).prepare('tenant_config_list')
}

/**
 * The same of the rows whose token has a status. It has no name, so that PostgreSQL plans it for the values it is run with:
 * whether tokens or configurations are fewer decides which to walk, and either walk needs the bounds.
 */
function listByTokenStatus (db: NodePgDatabase) {
  const bytes = bytesOf(tokenWatch)
  return db.select(listed).from(tokenWatch).innerJoin(table, eq(bytesOf(table), bytes))
    .where(and(eq(tokenWatch.status, placeholder('token_status')), isBetween(bytes), isWanted()))
    .orderBy(asc(bytes)).limit(placeholder('limit')).prepare('')
}

const countsByStatus = sql.raw(tokenStatuses.map((status) => `'${status}', count(*) filter (where status = '${status}')`).join(', '))

/** The numbers of GET /admin/configs/stats, by three scans; what they read stands in indexes. */
export const statsQuery = sql`
  select rows.total, rows.active, rows.total - rows.active as inactive, rows.onboarded, rows.total - rows.onboarded as pending,
    tokens.expired, tokens.expiring_7d, tokens.expiring_30d, tokens.no_expiry, rows.total - tokens.total as missing,
    watch.token_status
  from (
    select count(*)::int as total, (count(*) filter (where is_active))::int as active,
      (count(*) filter (where onboarding_completed))::int as onboarded
    from tenant_configs
  ) rows, (
    select count(*)::int as total,
      (count(*) filter (where token_expires_at <= now()))::int as expired,
      (count(*) filter (where token_expires_at > now() and token_expires_at <= now() + interval '7 days'))::int as expiring_7d,
      (count(*) filter (where token_expires_at > now() and token_expires_at <= now() + interval '30 days'))::int as expiring_30d,
      (count(*) filter (where token_expires_at is null))::int as no_expiry
    from tenant_configs where access_token is not null
  ) tokens, (
    select json_build_object(${countsByStatus}) as token_status from token_watch
  ) watch`
