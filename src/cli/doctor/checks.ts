/** The checks, in the order in which they are printed. */
export const checkNames = [
  'settings', 'database', 'wrapped_keys', 'keys', 'meta', 'clock', 'api_version', 'app', 'webhook',
  'webhook_verify_token', 'oauth_redirect_uris', 'login_config'
] as const

export type CheckName = typeof checkNames[number]

/** The finding of a check, and how to mend it. Both are for a person, and hold no secret and no words of Meta's. */
export interface Finding { status: 'ok' | 'warning' | 'failed' | 'skipped', detail: string, fix: string | null }

export type Check = { name: CheckName } & Finding

/** The findings of all checks. */
export type Findings = Record<CheckName, Finding>

export const ok = (detail: string): Finding => ({ status: 'ok', detail, fix: null })
export const warning = (detail: string, fix: string): Finding => ({ status: 'warning', detail, fix })
export const failed = (detail: string, fix: string): Finding => ({ status: 'failed', detail, fix })

/** A check that was not made for a reason of its own. */
export const notChecked = (detail: string, fix: string | null = null): Finding => ({ status: 'skipped', detail, fix })

/** A check that another one, which did not succeed, is needed for. */
export const skippedFor = (name: CheckName): Finding => notChecked(`Not checked, because of ${name}.`)

/** Returns the checks in their order. */
export function listChecks (findings: Findings): Check[] {
  return checkNames.map((name) => ({ name, ...findings[name] }))
}
