import { createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { deactivateWabas, recordDelivery } from './account-updates.sql.js'
import { MalformedJson } from '../errors.js'
import { CHARACTER } from '../schemas/fields.js'
import type { TenantConfigs } from '../tenant-configs/tenant-configs.js'
import type { TokenWatch, Transition } from '../token-watch/store.js'

declare module 'fastify' {
  interface FastifyInstance { accountUpdates: AccountUpdates }
}

export type AccountUpdates = ReturnType<typeof createAccountUpdates>

interface AccountUpdateDependencies {
  tenantConfigs: Pick<TenantConfigs, 'inTransaction'>
  tokenWatch: Pick<TokenWatch, 'recordIn' | 'emit'>
  /** The secret of the app, and former ones. */
  secrets: string[]
  verifyToken: string | undefined
  log: Pick<FastifyInstance['log'], 'info' | 'warn'>
}

const LAST_SECOND_OF_9999 = 253402300799
const ACCOUNT_ID = new RegExp(`^${CHARACTER}{1,255}$`, 'u')

// Of what Meta may send no more than this is looked at; one odd part must not hide the others.
const Delivery = Type.Object({ object: Type.Literal('whatsapp_business_account'), entry: Type.Array(Type.Unknown()) })
const Entry = Type.Object({ id: Type.Optional(Type.Unknown()), time: Type.Optional(Type.Unknown()), changes: Type.Array(Type.Unknown()) })
const ChangeEntry = Type.Object({ field: Type.Literal('account_update'), value: Type.Object({ event: Type.String(), waba_info: Type.Optional(Type.Unknown()) }) })
const WabaInfo = Type.Object({ waba_id: Type.String() })
const UnixSeconds = Type.Integer({ minimum: 0, maximum: LAST_SECOND_OF_9999 })

/** By which event an account is lost, and since when: Unix seconds, Infinity when nobody says. */
interface Loss { event: string, at: number }

/**
 * Reads the account updates that Meta sends to the webhook of the app.
 * Source: developers.facebook.com/documentation/business-messaging/whatsapp/webhooks, field `account_update`
 */
export function createAccountUpdates ({ tenantConfigs, tokenWatch, secrets, verifyToken, log }: AccountUpdateDependencies) {
  return {
    /** Whether a body (its bytes as they came) bears the signature that one of the secrets makes: `sha256=` and 64 lower-case hex digits. */
    isSigned (body: Buffer, signature: string): boolean {
      return secrets.some((secret) => isSame(signature, `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`))
    },

    /** Whether this is the verify token that was agreed upon with Meta; without one, nothing is. */
    isVerifyToken: (token: string): boolean => verifyToken !== undefined && isSame(digestOf(token), digestOf(verifyToken)),

    /**
     * Deactivates every tenant on an account that a signed body says is lost to us, and notes why its token is of no more use.
     * Who was onboarded since then is left alone. A body that was seen before, or says nothing of the kind, changes nothing.
     * Throws `MALFORMED_JSON`, and `DATABASE_UNAVAILABLE`: then nothing is kept, and Meta's next try counts.
     */
    async receive (body: Buffer): Promise<void> {
      const lost = lostAccounts(parseBody(body))
      if (lost.size === 0) return
      const written = new Set<string>()
      const times = [...lost.values()].map(({ at }) => at)
      const { tenants, transitions } = await tenantConfigs.inTransaction(written, async (tx) => {
        const transitions: Transition[] = []
        const tenants = await recordDelivery(tx, digestOf(body)) ? await deactivateWabas(tx, [...lost.keys()], times) : []
        for (const { tenant_id: tenantId, waba_id: wabaId, access_token: sealed, is_lost: isLost } of tenants) {
          if (!isLost) continue
          written.add(tenantId)
          if (sealed === null) continue
          const { transition } = await tokenWatch.recordIn(tx, tenantId, sealed, { valid: false, reason: String(lost.get(wabaId)?.event) })
          if (transition !== null) transitions.push(transition)
        }
        return { tenants, transitions }
      })
      for (const { tenant_id, waba_id, is_lost } of tenants) {
        const about = { tenant_id, waba_id, event: lost.get(waba_id)?.event }
        if (is_lost) log.warn(about, 'deactivated a tenant: its account is lost to us')
        else log.info(about, 'left a tenant as it is: it was onboarded after its account was lost')
      }
      for (const transition of transitions) tokenWatch.emit(transition)
    }
  }
}

function parseBody (body: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch {
    throw new MalformedJson()
  }
}

/** The accounts that a body says are lost to us. Of several losses of one account the latest counts. */
function lostAccounts (body: unknown): Map<string, Loss> {
  const lost = new Map<string, Loss>()
  for (const entry of Value.Check(Delivery, body) ? body.entry : []) {
    if (!Value.Check(Entry, entry)) continue
    const at = Value.Check(UnixSeconds, entry.time) ? entry.time : Infinity
    for (const change of entry.changes) {
      if (!Value.Check(ChangeEntry, change)) continue
      const { event, waba_info: info } = change.value
      const wabaId = lostAccountId(event, Value.Check(WabaInfo, info) ? info.waba_id : undefined, entry.id)
      if (typeof wabaId !== 'string' || !ACCOUNT_ID.test(wabaId)) continue
      const known = lost.get(wabaId)
      if (known === undefined || known.at <= at) lost.set(wabaId, { event, at })
    }
  }
  return lost
}

/** The account that an event says is lost to us, if it says so. */
function lostAccountId (event: string, named: string | undefined, entryId: unknown): unknown {
  switch (event) {
    // Here the id of the entry is that of a business, which may be the number of somebody's account too.
    case 'PARTNER_REMOVED':
    case 'PARTNER_APP_UNINSTALLED': return named
    case 'ACCOUNT_DELETED': return named ?? entryId
    default: return undefined
  }
}

const digestOf = (bytes: Buffer | string) => createHash('sha256').update(bytes).digest('base64url')

function isSame (one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)]
  return a.length === b.length && timingSafeEqual(a, b)
}

/** Decorates `fastify.accountUpdates`. */
async function accountUpdates (fastify: FastifyInstance): Promise<void> {
  const { tenantConfigs, tokenWatch, log, env } = fastify
  const former = env.FB_APP_SECRETS_PREVIOUS?.split(',').map((secret) => secret.trim()) ?? []
  fastify.decorate('accountUpdates', createAccountUpdates({
    tenantConfigs,
    tokenWatch,
    // Anybody can sign with an empty one.
    secrets: [env.FB_APP_SECRET ?? '', ...former].filter((secret) => secret !== ''),
    verifyToken: env.WEBHOOK_VERIFY_TOKEN,
    log
  }))
}

export default fp(accountUpdates, { name: 'account-updates', dependencies: ['env', 'tenant-configs', 'token-watch'] })
