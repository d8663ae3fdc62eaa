/** The actions that are recorded, with the meaning of each name. */
export const auditActions = {
  'config.create': 'Create the configuration',
  'config.update': 'Change the configuration',
  'config.delete': 'Delete the configuration',
  'config.purge': 'Delete the configuration and its versions',
  'config.restore': 'Restore a former configuration',
  'config.activate': 'Serve the configuration',
  'config.deactivate': 'Stop serving the configuration',
  'config.verify': 'Verify the credentials at Meta',
  'config.read_full': 'Read the secrets in clear',
  'config.resolve': 'Read the values that serve, by a service key',
  'config.delete_all': 'Delete every configuration',
  'onboarding.start': 'Begin a login at Meta',
  'onboarding.complete': 'Onboard with a login',
  'onboarding.resume': 'Go on with an onboarding',
  'onboarding.store': 'Store the credentials of a login',
  'token.extend': 'Replace the access token by one that lives longer',
  'event.redeliver': 'Deliver an event again',
  'service_key.create': 'Create a service key',
  'service_key.delete': 'Delete a service key',
  'audit.read': 'Read the audit log of all tenants',
  'api.access': 'Any other request; recorded only when it is denied'
} as const

export type AuditAction = keyof typeof auditActions

export const actionNames = Object.keys(auditActions).filter((name): name is AuditAction => name in auditActions)

/** The actors: a user of a tenant, a person of the platform, a key of other code, or the service by itself. */
export const auditRoles = ['tenant', 'admin', 'auditor', 'service_key', 'system'] as const
export type AuditRole = typeof auditRoles[number]

/** The outcomes: `denied` by a guard, `refused` with any other 4xx, `failed` with a 5xx. */
export const auditOutcomes = ['ok', 'denied', 'refused', 'failed'] as const
export type AuditOutcome = typeof auditOutcomes[number]
