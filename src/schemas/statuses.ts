/** The steps of an onboarding, in their order. */
export const stepNames = ['exchange', 'inspect', 'assets', 'store', 'subscribe', 'register', 'done'] as const

export type StepName = typeof stepNames[number]

/** The states of a step. */
export const stepStatuses = ['pending', 'done', 'skipped', 'failed'] as const

/** The states of an onboarding. */
export const onboardingStatuses = ['in_progress', 'completed', 'failed'] as const

/** The states of a tenant's access token. */
export const tokenStatuses = ['ok', 'expiring', 'expired', 'revoked', 'unverified', 'reauth_required'] as const

export type TokenStatus = typeof tokenStatuses[number]

/** The states of a token that is no longer valid at Meta. */
export const deadStatuses: TokenStatus[] = ['expired', 'revoked', 'reauth_required']

/** The states of the phone number of a tenant. */
export const numberStatuses = [
  'ok', 'pending', 'low_quality', 'restricted', 'missing', 'none', 'unknown'
] as const

export type NumberStatus = typeof numberStatuses[number]

/** The states of a tenant's account, as Meta's account updates report them. */
export const accountStatuses = ['ok', 'suspended', 'lost'] as const

export type AccountStatus = typeof accountStatuses[number]

/** The states of the delivery of an event. */
export const eventStates = ['waiting', 'delivered', 'ended'] as const

/** The formats of a sealed text; `v1` has no hint. */
export const sealFormats = ['v1', 'v2'] as const
export type SealFormat = typeof sealFormats[number]

/** Why a deleted configuration is not restored. */
export const skipCodes = ['CONFIG_EXISTS', 'VERSION_SUPERSEDED', 'SECRET_UNREADABLE'] as const
export type SkipCode = typeof skipCodes[number]
