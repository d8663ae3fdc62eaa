import { Type, type StringOptions } from '@sinclair/typebox'
import { nullable, oneOf, timestamp } from './fields.js'
import { accountStatuses, numberStatuses, tokenStatuses } from './statuses.js'

const timeOrNull = (description: string) => nullable(timestamp({ description }))

export const tokenStatus = (options: StringOptions) => oneOf(tokenStatuses, options)

/** The state of the tenant's access token and phone number, as the last check found it, and of its account. */
export const TokenHealth = Type.Object({
  token_status: tokenStatus({
    description: '`ok`: valid for more than 14 days; `expiring`: it, or its access to data, ends within 14 days; ' +
      '`expired`: its own date, or that of its access to data, has passed; ' +
      '`revoked`: Meta calls it invalid before that; ' +
      '`reauth_required`: expired or revoked at two checks, so the Meta login must be started again; ' +
      '`unverified`: nothing is known of it, or not yet, or it cannot be checked'
  }),
  reason: nullable(Type.String({
    description: 'Why: `expires_within_14_days`, `expires_within_7_days` or `expires_within_1_day`; `date_passed`; ' +
      '`data_access_ends_within_14_days`, `data_access_ends_within_7_days` or `data_access_ends_within_1_day`; ' +
      '`data_access_ended`; Meta\'s code and subcode, such as `meta_190_460`; `other_app`; ' +
      'what Meta\'s webhook told, such as `PARTNER_REMOVED`; ' +
      '`no_token`, `no_app`, `app_rejected` or `unreadable` when it cannot be checked. ' +
      'null when there is nothing to say'
  })),
  checked_at: timeOrNull('When something was last found of the token; null for never'),
  token_expires_at: timeOrNull('When the access token expires; null when it does not, or nobody said'),
  next_check_at: timeOrNull('When it is due to be looked at again; ' +
    'Meta is not asked then while it lets no calls through. null without a token, and while the tenant is off'),
  number_status: oneOf(numberStatuses, {
    description: 'The phone number. `ok`: it can send; `pending`: it is not registered yet; ' +
      '`low_quality`: Meta may limit it soon; `restricted`: Meta lets it send little or nothing; ' +
      '`missing`: the account does not have it, or the token does not see the account; ' +
      '`none`: there is no phone_number_id; `unknown`: nothing is known of it, or not yet'
  }),
  number_reason: nullable(Type.String({
    description: 'Meta\'s word for it, such as `BANNED`; null when there is nothing to say'
  })),
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
  description: 'What is known of the access token, the phone number and the account',
  examples: [{
    token_status: 'expiring',
    reason: 'expires_within_14_days',
    checked_at: '2026-11-23T12:00:00.000000Z',
    token_expires_at: '2026-12-06T12:00:00.000000Z',
    next_check_at: '2026-11-24T12:00:00.000000Z',
    number_status: 'ok',
    number_reason: null,
    account_status: 'ok',
    account_reason: null,
    account_initiated_by: null
  }]
})
