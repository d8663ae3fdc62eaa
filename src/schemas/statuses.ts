/** The steps of an onboarding, in their order. */
export const stepNames = ['exchange', 'inspect', 'assets', 'store', 'subscribe', 'register', 'done'] as const

/** What may have become of a step. */
export const stepStatuses = ['pending', 'done', 'skipped', 'failed'] as const

/** What may have become of an onboarding. */
export const onboardingStatuses = ['in_progress', 'completed', 'failed'] as const

/** What can be said of a tenant's access token. */
export const tokenStatuses = ['ok', 'expiring', 'expired', 'revoked', 'unverified', 'reauth_required'] as const
