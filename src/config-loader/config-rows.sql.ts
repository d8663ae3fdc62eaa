import { and, asc, eq, sql } from 'drizzle-orm'
import { prepared, type PooledDb } from '../database/prepared.js'
import { secretColumns, tenantConfigs as table, tokenWatch, verifiedIdentities, type SecretColumn, type TokenStatus } from '../database/schema.js'
import { isVerified } from '../tenant-configs/verified-identities.sql.js'

const { tenant_id, phone_number_id, access_token, waba_id, fb_app_id, fb_app_secret, callback_url, redirect_url, verify_token, token_expires_at, is_active, updated_at } = table

/** What of a row the loader works with. */
const columns = { tenant_id, phone_number_id, access_token, waba_id, fb_app_id, fb_app_secret, callback_url, redirect_url, verify_token, token_expires_at, is_active, updated_at }

/** Those of them that are sealed. */
export const sealedColumns = secretColumns.filter((column): column is SecretColumn & keyof typeof columns => column in columns)

export type SealedColumn = typeof sealedColumns[number]

/** What the loader reads, prepared once. The look-ups find a tenant by its verified identity only, the first ones by tenant id, at most `limit`. */
export function configRowStatements (db: PooledDb) {
  const [key, limit] = [sql.placeholder('key'), sql.placeholder('limit')]
  const fields = {
    ...columns,
    is_verified: sql<boolean>`${verifiedIdentities.tenant_id} is not null`.as('is_verified'),
    token_status: sql<TokenStatus | null>`${tokenWatch.status}`.as('token_status')
  }
  const rows = () => db.select(fields).from(table).leftJoin(verifiedIdentities, isVerified).leftJoin(tokenWatch, eq(tokenWatch.tenant_id, tenant_id))
  const active = (id: typeof verifiedIdentities.phone_number_id | typeof verifiedIdentities.waba_id) =>
    rows().where(and(eq(id, key), is_active)).orderBy(asc(tenant_id)).limit(limit)
  return {
    ofTenant: prepared(db, 'config_row_of_tenant', rows().where(eq(tenant_id, key))),
    activeOnNumber: prepared(db, 'config_row_on_number', active(verifiedIdentities.phone_number_id)),
    activeOnWaba: prepared(db, 'config_row_on_waba', active(verifiedIdentities.waba_id))
  }
}

export type ConfigRowStatements = ReturnType<typeof configRowStatements>

/** A row as the loader reads it: its secrets are sealed. */
export type ConfigRow = Awaited<ReturnType<ConfigRowStatements['ofTenant']['execute']>>[number]
