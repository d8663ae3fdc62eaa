import { and, asc, eq, sql } from 'drizzle-orm'
import { tenantConfigs as table, tokenWatch, verifiedIdentities } from '../database/schema/tenant-configs.js'
import { builder, prepare, type Prepared } from '../database/statement.js'
import { isVerified } from '../database/verified-identity.js'
import { configKeys, secretColumns, type ConfigKey, type SecretColumn } from '../schemas/columns.js'
import type { TokenStatus } from '../schemas/statuses.js'

type ServedColumn = typeof configKeys[ConfigKey]

const servedColumns = new Set<string>(Object.values(configKeys))

const { tenant_id, is_active, updated_at } = table

const fields = {
  tenant_id,
  is_active,
  phone_number_id: table.phone_number_id,
  access_token: table.access_token,
  waba_id: table.waba_id,
  fb_app_id: table.fb_app_id,
  fb_app_secret: table.fb_app_secret,
  callback_url: table.callback_url,
  redirect_url: table.redirect_url,
  verify_token: table.verify_token,
  token_expires_at: table.token_expires_at,
  is_verified: sql<boolean>`${verifiedIdentities.tenant_id} is not null`.as('is_verified'),
  token_status: sql<TokenStatus | null>`${tokenWatch.status}`.as('token_status')
} satisfies Record<ServedColumn, unknown> & Record<string, unknown>

export type SealedColumn = Extract<SecretColumn, ServedColumn>

/** The secret columns that the loader serves. */
export const sealedColumns = secretColumns.filter((column): column is SealedColumn => servedColumns.has(column))

const [key, limit] = [sql.placeholder('key'), sql.placeholder('limit')]

const isWatched = eq(tokenWatch.tenant_id, tenant_id)

const rows = () => builder.select(fields).from(table)
  .leftJoin(verifiedIdentities, isVerified).leftJoin(tokenWatch, isWatched)

/** Active rows whose verified identity has an id, the first ones by tenant id. */
const activeWith = (id: typeof verifiedIdentities.phone_number_id | typeof verifiedIdentities.waba_id) =>
  rows().where(and(eq(id, key), is_active)).orderBy(asc(tenant_id)).limit(limit)

/** Finds the row of a tenant. */
export const rowOfTenant = prepare('config_row_of_tenant', rows().where(eq(tenant_id, key)))

/** Finds the row of a tenant, to explain it. */
export const explainedRow = prepare('config_row_explained', builder.select({ ...fields, updated_at }).from(table)
  .leftJoin(verifiedIdentities, isVerified).leftJoin(tokenWatch, isWatched).where(eq(tenant_id, key)))

/** Finds the active tenants that own a phone number by their verified identity, at most `limit`. */
export const activeOnNumber = prepare('config_row_on_number', activeWith(verifiedIdentities.phone_number_id))

/** Finds the active tenants on an account by their verified identity, at most `limit`. */
export const activeOnWaba = prepare('config_row_on_waba', activeWith(verifiedIdentities.waba_id))

type RowOf<S> = S extends Prepared<infer Row> ? Row : never

/** A row as the loader reads it: its secrets are sealed. */
export type ConfigRow = RowOf<typeof rowOfTenant>

export type ExplainedRow = RowOf<typeof explainedRow>
