import type { Env } from '../settings/env.js'
import { CHARACTER } from '../schemas/fields.js'
import { refuse } from './refusal.js'

export type Claims = Record<string, unknown>

/** The settings that say where claims are and which values are accepted. */
export type ClaimSettings = Pick<Env,
  'JWT_TENANT_CLAIM' | 'JWT_ROLE_CLAIM' | 'JWT_ADMIN_ROLE' | 'JWT_AUDITOR_ROLE' | 'JWT_ISSUER' | 'JWT_AUDIENCE' |
  'JWT_AUDIENCE_CLAIM'>

/** The claims of a token that the guards need. */
export interface Identity {
  /** The tenant claim, not yet checked; an integer is its digits. */
  tenantId: unknown
  /** `tenant` without the admin and the auditor role; an admin may have both. */
  role: 'tenant' | 'admin' | 'auditor'
  /** The claim `sub`. */
  userId: string | undefined
  /** The scopes of the token; a value that is not a text is none of ours. */
  scopes: unknown[]
}

export type ClaimReader = ReturnType<typeof createClaimReader>

export interface TokenSubject {
  tenantId?: string | undefined
  admin?: boolean | undefined
  auditor?: boolean | undefined
  userId?: string | undefined
  /** Scopes, separated by blanks. */
  scope?: string | undefined
}

const TIME_CLAIMS = ['exp', 'nbf', 'iat']
const SUBJECT = new RegExp(`^${CHARACTER}{1,255}$`, 'u')
const ARRAY_INDEX = /^(0|[1-9]\d*)$/

/** Creates the functions that read and write the claims which the settings name. */
export function createClaimReader (settings: ClaimSettings) {
  const tenantPath = parseClaim(settings.JWT_TENANT_CLAIM)
  const rolePath = parseClaim(settings.JWT_ROLE_CLAIM)
  const audiencePath = parseClaim(settings.JWT_AUDIENCE_CLAIM)
  const issuers = splitList(settings.JWT_ISSUER)
  const audiences = splitList(settings.JWT_AUDIENCE)

  return {
    /**
     * Checks the claims of a verified token, and returns those that the guards need.
     *
     * @throws UNAUTHENTICATED, with the failed check
     */
    read (claims: Claims): Identity {
      const sub = ownValue(claims, 'sub')
      if (!isUsableSubject(sub)) throw refuse('subject')
      if (claims['exp'] === undefined || !TIME_CLAIMS.every((name) => isUsableTime(claims[name]))) throw refuse('times')
      if (!isAccepted(issuers, claims['iss'])) throw refuse('issuer')
      if (!isAccepted(audiences, ...[valueAt(claims, audiencePath)].flat())) throw refuse('audience')
      const roles = [valueAt(claims, rolePath), settings.JWT_ROLE_CLAIM === 'role' ? claims['roles'] : undefined].flat()
      return {
        tenantId: toText(valueAt(claims, tenantPath)),
        role: roleAmong(roles),
        userId: sub,
        scopes: readScopes(claims)
      }
    },

    /** The claims that `read` accepts, without times. The first issuer and the first audience count. */
    write ({ tenantId, admin, auditor, userId, scope }: TokenSubject): Claims {
      const values: Array<[string[], string | undefined]> = [
        [['sub'], userId],
        [['scope'], scope],
        [tenantPath, tenantId],
        [rolePath, auditor === true ? settings.JWT_AUDITOR_ROLE : undefined],
        [rolePath, admin === true ? settings.JWT_ADMIN_ROLE : undefined],
        [['iss'], issuers?.[0]],
        [audiencePath, audiences?.[0]]
      ]
      return values.reduce<Claims>((claims, [path, value]) => {
        return value === undefined ? claims : withValue(claims, path, value)
      }, {})
    }
  }

  function roleAmong (roles: unknown[]): Identity['role'] {
    if (roles.includes(settings.JWT_ADMIN_ROLE)) return 'admin'
    return roles.includes(settings.JWT_AUDITOR_ROLE) ? 'auditor' : 'tenant'
  }
}

/**
 * Parses a setting that names a claim: a JSON Pointer (RFC 6901) if it begins with a slash, else a name, which may
 * contain slashes: `https://acme.example/tenant`.
 *
 * @returns the names of the members, from the outermost
 */
function parseClaim (setting: string): string[] {
  if (!setting.startsWith('/')) return [setting]
  // The order matters: `~01` is `~1`.
  return setting.slice(1).split('/').map((name) => name.replaceAll('~1', '/').replaceAll('~0', '~'))
}

function splitList (setting: string | undefined): string[] | undefined {
  return setting?.split(',').map((part) => part.trim())
}

function isAccepted (accepted: string[] | undefined, ...values: unknown[]): boolean {
  return accepted === undefined || values.some((value) => typeof value === 'string' && accepted.includes(value))
}

function valueAt (claims: unknown, path: string[]): unknown {
  return path.reduce(ownValue, claims)
}

/** A member of an object or an array; undefined for what comes from a prototype, and for the length of an array. */
function ownValue (value: unknown, name: string): unknown {
  const isMember = Array.isArray(value) ? ARRAY_INDEX.test(name) : typeof value === 'object'
  return isMember && Object.hasOwn(Object(value), name) ? Object(value)[name] : undefined
}

/** A copy of the claims with a value at the path. A computed key is an own member, also `__proto__`. */
function withValue (claims: Claims, [name = '', ...rest]: string[], value: string): Claims {
  const inner = Object(ownValue(claims, name))
  return { ...claims, [name]: rest.length === 0 ? value : withValue(inner, rest, value) }
}

/** Reads `scope`, a text (RFC 8693), and `scp` of other providers: a text too (Entra ID), or a list (Okta). */
function readScopes ({ scope, scp }: Claims): unknown[] {
  return [...splitScopes(scope), ...Array.isArray(scp) ? scp : splitScopes(scp)]
}

function splitScopes (claim: unknown): string[] {
  return typeof claim === 'string' ? claim.split(' ') : []
}

/** The digits of an integer that JSON.parse cannot have rounded; any other value as it is. */
function toText (claim: unknown): unknown {
  return typeof claim === 'number' && Number.isSafeInteger(claim) && claim >= 0 ? String(claim) : claim
}

/** Tells whether a `sub` is absent, or a string of 1 to 255 code points without control characters. */
export function isUsableSubject (sub: unknown): sub is string | undefined {
  return sub === undefined || (typeof sub === 'string' && SUBJECT.test(sub))
}

/** Tells whether a time claim is absent or a time. fast-jwt ignores one that is no number, and accepts 1e308. */
function isUsableTime (time: unknown): boolean {
  return time === undefined || (typeof time === 'number' && time >= 0 && time < 2 ** 53)
}
