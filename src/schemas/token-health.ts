import { Type, type StringOptions } from '@sinclair/typebox'
import { nullable, oneOf, timestamp } from './fields.js'
import { accountStatuses, tokenStatuses } from './statuses.js'

const timeOrNull = (description: string) => nullable(timestamp({ description }))

export const tokenStatus = (options: StringOptions) => oneOf(tokenStatuses, options)

/** The state of the tenant's access token, as the last check found it, and of its account. */
export const TokenHealth = Type.Object({
  token_status: tokenStatus({
    description: '`ok`: valid for more than 14 days; `expiring`: for 14 days at most; ' +
      '`expired`: its own date has passed; `revoked`: Meta calls it invalid before that; ' +
      '`reauth_required`: expired or revoked at two checks, so the Meta login must be started again; ' +
      '`unverified`: nothing is known of it, or not yet, or it cannot be checked'
  }),
  reason: nullable(Type.String({
    description: 'Why: `expires_within_14_days`, `expires_within_7_days` or `expires_within_1_day`; `date_passed`; ' +
      'Meta\'s code and subcode, such as `meta_190_460`; `other_app`; ' +
      'what Meta\'s webhook told, such as `PARTNER_REMOVED`; ' +
      '`no_token`, `no_app`, `app_rejected` or `unreadable` when it cannot be checked. ' +
      'null when there is nothing to say'
  })),
  checked_at: timeOrNull('When something was last found of the token; null for never'),
  token_expires_at: timeOrNull('When the access token expires; null when it does not, or nobody said'),
  next_check_at: timeOrNull('When it is due to be looked at again; ' +
    'Meta is not asked then while it lets no calls through. null without a token, and while the tenant is off'),
  account_status: oneOf(accountStatuses, {
    description: 'What Meta\'s webhook told of the account, until the tenant is turned on: `ok`: nothing; ' +
      '`suspended`: turned off until Meta tells that it is back; `lost`: turned off until the tenant onboards again'
  }),
  account_reason: nullable(Type.String({
    description: 'Why it is suspended or lost: Meta\'s reason, such as `ACCOUNT_DISCONNECTED`, else the name of the ' +
      'update, such as `PARTNER_REMOVED`; else null'
  })),
  account_initiated_by: nullable(Type.String({
    description: 'By whom, in Meta\'s words, such as `USER` or `SYSTEM`; null when Meta did not tell'
  }))
}, {
  $id: 'TokenHealth',
  description: 'What is known of the access token and the account',
  examples: [{
    token_status: 'expiring',
    reason: 'expires_within_14_days',
    checked_at: '2026-11-23T12:00:00.000000Z',
    token_expires_at: '2026-12-06T12:00:00.000000Z',
    next_check_at: '2026-11-24T12:00:00.000000Z',
    account_status: 'ok',
    account_reason: null,
    account_initiated_by: null
  }]
})
