import pg from 'pg'

/** The columns of `tenant_configs`. */
export const columns = [
  'id', 'tenant_id', 'user_id', 'waba_id', 'phone_number_id', 'access_token', 'fb_app_id', 'fb_app_secret',
  'callback_url', 'redirect_url', 'verify_token',
  'token_expires_at', 'refresh_token', 'is_active', 'onboarding_completed', 'onboarded_at', 'last_verified_at',
  'created_at', 'updated_at'
]

/** The columns that the loader reads. */
export const loaded = [
  'tenant_id', 'phone_number_id', 'access_token', 'waba_id', 'fb_app_id', 'fb_app_secret', 'callback_url',
  'redirect_url', 'verify_token', 'token_expires_at',
  'is_active', 'updated_at'
]

/** pg would parse each timestamp into a Date: a tenth of a floor's time, for no use. */
export const types: pg.CustomTypesConfig = {
  getTypeParser: (oid, format) => oid === pg.types.builtins.TIMESTAMPTZ ? String : pg.types.getTypeParser(oid, format)
}
