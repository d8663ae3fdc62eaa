/**
 * The columns of `tenant_configs` that a client may write, in the order of the table.
 * A secret is stored sealed and returned masked.
 */
export const writableColumns = {
  waba_id: 'plain',
  phone_number_id: 'plain',
  access_token: 'secret',
  fb_app_id: 'plain',
  fb_app_secret: 'secret',
  callback_url: 'plain',
  redirect_url: 'plain',
  verify_token: 'secret',
  token_expires_at: 'plain',
  refresh_token: 'secret'
} as const

export type WritableColumn = keyof typeof writableColumns

export type SecretColumn = {
  [name in WritableColumn]: typeof writableColumns[name] extends 'secret' ? name : never
}[WritableColumn]

export const writableNames = Object.keys(writableColumns).filter(isWritable)

export const secretColumns = writableNames.filter((name): name is SecretColumn => writableColumns[name] === 'secret')

function isWritable (name: string): name is WritableColumn {
  return name in writableColumns
}

/** Maps the keys of `getAllConfig()` to the columns that hold their values. */
export const configKeys = {
  phone_id: 'phone_number_id',
  access_token: 'access_token',
  waba_id: 'waba_id',
  fb_app_id: 'fb_app_id',
  fb_app_secret: 'fb_app_secret',
  callback_url: 'callback_url',
  redirect_url: 'redirect_url',
  verify_token: 'verify_token',
  token_expires_at: 'token_expires_at'
} as const satisfies Record<string, WritableColumn>

export type ConfigKey = keyof typeof configKeys

/** The secrets of the service itself, in `service_secrets`. */
export const serviceSecretNames = ['audit_key'] as const

export type ServiceSecret = typeof serviceSecretNames[number]

/** Takes the place of the tenant for the secrets of the service itself: no tenant has an empty id. */
export const SERVICE = ''

/** The place that a secret is sealed for: a column of a tenant's row, or with `SERVICE` a name in `service_secrets`. */
export type SealedPlace = SecretColumn | ServiceSecret
