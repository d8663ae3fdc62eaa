import { and, asc, eq, sql } from 'drizzle-orm'
import { prepared, type PooledDb } from './prepared.js'
import { secretColumns, tenantConfigs as table, type SecretColumn } from './schema.js'

const { tenant_id, phone_number_id, access_token, waba_id, fb_app_id, fb_app_secret, callback_url, redirect_url, verify_token, token_expires_at, is_active, updated_at } = table

/** What of a row the loader works with. */
const columns = { tenant_id, phone_number_id, access_token, waba_id, fb_app_id, fb_app_secret, callback_url, redirect_url, verify_token, token_expires_at, is_active, updated_at }

/** Those of them that are sealed. */
export const sealedColumns = secretColumns.filter((column): column is SecretColumn & keyof typeof columns => column in columns)

export type SealedColumn = typeof sealedColumns[number]

/** What the loader reads, prepared once. */
export function configRowStatements (db: PooledDb) {
  const key = sql.placeholder('key')
  return {
    ofTenant: prepared(db, 'config_row_of_tenant', db.select(columns).from(table).where(eq(tenant_id, key))),
    activeOnNumber: prepared(db, 'config_row_on_number', db.select(columns).from(table).where(and(eq(phone_number_id, key), is_active))),
    activeOnWaba: prepared(db, 'config_row_on_waba', db.select(columns).from(table).where(and(eq(waba_id, key), is_active)).orderBy(asc(tenant_id)))
  }
}

export type ConfigRowStatements = ReturnType<typeof configRowStatements>

/** A row as the loader reads it: its secrets are sealed. */
export type ConfigRow = Awaited<ReturnType<ConfigRowStatements['ofTenant']['execute']>>[number]
