import { customType, text, varchar, type PgColumnBuilderBase } from 'drizzle-orm/pg-core'
import type { WritableColumn } from '../../schemas/columns.js'
import { isoFromPostgres } from '../../schemas/timestamps.js'

/** A `timestamptz` that stays text between the database and JSON. */
export const timestamptz = customType<{ data: string, driverData: string }>({
  dataType: () => 'timestamp with time zone',
  fromDriver: isoFromPostgres
})

export const writable = {
  waba_id: varchar({ length: 255 }),
  phone_number_id: varchar({ length: 255 }),
  access_token: text(),
  fb_app_id: varchar({ length: 255 }),
  fb_app_secret: text(),
  callback_url: varchar({ length: 500 }),
  redirect_url: varchar({ length: 500 }),
  verify_token: text(),
  token_expires_at: timestamptz(),
  refresh_token: text()
} satisfies Record<WritableColumn, PgColumnBuilderBase>
