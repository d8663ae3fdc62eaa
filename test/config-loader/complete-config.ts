import { randomBytes } from 'node:crypto'

const canary = (name: string) => `canary-${name}-${randomBytes(6).toString('hex')}`

/** A value for each platform setting. */
export const env = {
  WHATSAPP_PHONE_ID: 'env phone_id',
  WHATSAPP_TOKEN: canary('token-of-env'),
  WHATSAPP_WABA_ID: 'env waba_id',
  FB_APP_ID: 'env fb_app_id',
  FB_APP_SECRET: canary('secret-of-env'),
  CALLBACK_URL: 'https://env.example/callback',
  REDIRECT_URL: 'https://env.example/redirect',
  VERIFY_TOKEN: canary('verify-of-env')
}

/** A value for each column. */
export const row = {
  phone_number_id: 'row phone',
  access_token: canary('token-of-row'),
  waba_id: 'row waba',
  fb_app_id: 'row app',
  fb_app_secret: canary('secret-of-row'),
  callback_url: 'https://row.example/callback',
  redirect_url: 'https://row.example/redirect',
  verify_token: canary('verify-of-row'),
  refresh_token: canary('refresh-of-row'),
  token_expires_at: '2027-01-22T12:00:00.001000Z'
}
