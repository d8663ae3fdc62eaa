import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { NodePgDatabase } from 'drizzle-orm/node-postgres'
import { reconcile } from '../database/reconcile.js'
import { isoFromMs, type TokenStatus } from '../database/schema.js'
import { lockWatch, insertEvent, replaceToken, saveWatch, setExpiry, tokenWatchStatements, type Transaction } from './token-watch.sql.js'
import { nextState, type TokenFinding } from './state.js'
import { mapDatabaseErrors } from '../database/database.js'
import type { TenantConfigs } from '../tenant-configs/tenant-configs.js'

export type { TokenFinding } from './state.js'

declare module 'fastify' {
  interface FastifyInstance { tokenWatch: TokenWatch }
}

/** A change of a token's status that is told, once; `at` is ISO 8601. */
export interface Transition { id: string, type: string, tenant_id: string, from: TokenStatus, to: TokenStatus, reason: string | null, at: string }

/** What is known of a tenant's token; times are ISO 8601. */
export interface TokenHealth { token_status: TokenStatus, reason: string | null, checked_at: string | null, token_expires_at: string | null, next_check_at: string | null }

type Listener = (transition: Transition) => void | Promise<void>

export type TokenWatch = ReturnType<typeof createTokenWatch>

interface TokenWatchDependencies {
  orm: NodePgDatabase
  tenantConfigs: Pick<TenantConfigs, 'inTransaction'>
  /** Milliseconds between two checks of a token. */
  interval: number
  /** Whether somebody outside wants to be told of transitions. */
  deliversEvents: boolean
  log: Pick<FastifyInstance['log'], 'info' | 'warn'>
}

/** Keeps what is known of each stored token, and tells of transitions. All methods throw `DATABASE_UNAVAILABLE`. */
export function createTokenWatch ({ orm, tenantConfigs, interval, deliversEvents, log }: TokenWatchDependencies) {
  const statements = tokenWatchStatements(orm)
  const listeners = new Set<Listener>()

  /**
   * Notes a finding inside a transaction of the caller's, which must be one of `tenantConfigs`: it may change when the token expires.
   * The caller passes a transition on to `announce` after the commit.
   *
   * @param sealed the ciphertext of the token that was looked at: of any other one nothing is noted
   * @param claim the claim that a scheduled check works under, null for a tenant that is off: without it, because anything was
   * noted since, nothing is
   */
  async function recordIn (
    tx: Transaction, tenantId: string, sealed: string, finding: TokenFinding, claim?: string | null
  ): Promise<{ noted: boolean, transition: Transition | null }> {
    const known = await lockWatch(tx, tenantId, sealed)
    if (known === undefined || (claim !== undefined && claim !== known.next_check_at)) return { noted: false, transition: null }
    const { event, next_check, ...judged } = nextState(finding, known, known.now, interval)
    const at = isoFromMs(known.now)
    if (finding.valid && !sameTime(finding.expires_at, known.expires_at)) await setExpiry(tx, tenantId, finding.expires_at)
    // Turning it on makes the token due.
    const next = known.is_active ? isoFromMs(next_check) : null
    await saveWatch(tx, tenantId, { ...judged, checked_at: at, next_check_at: next })
    if (event === null) return { noted: true, transition: null }
    const transition = { id: randomUUID(), tenant_id: tenantId, ...event, to: judged.status, reason: judged.reason, at }
    if (deliversEvents) await insertEvent(tx, transition)
    return { noted: true, transition }
  }

  /** Tells of a transition that is committed: a log line, and every listener. */
  function emit (transition: Transition): void {
    log[transition.to === 'ok' ? 'info' : 'warn']({ event: transition }, transition.type)
    for (const listener of listeners) {
      // One that rejects would end the process.
      Promise.resolve(transition).then(listener).catch((err: unknown) => { log.warn({ err, event_id: transition.id }, 'a listener of token transitions failed') })
    }
  }

  /** Runs work that notes something, then tells of what it noted. */
  async function recordAndEmit (tenantId: string, work: (tx: Transaction) => ReturnType<typeof recordIn>): Promise<boolean> {
    const { noted, transition } = await tenantConfigs.inTransaction(tenantId, work)
    if (transition !== null) emit(transition)
    return noted
  }

  return {
    recordIn,
    emit,

    /** Notes what was found of the token whose ciphertext is `sealed`, unless another one is stored by now, and tells of a transition. Returns whether it was noted; `claim` is that of `noteIn`. */
    record: async (tenantId: string, sealed: string, finding: TokenFinding, claim?: string): Promise<boolean> =>
      await recordAndEmit(tenantId, async (tx) => await recordIn(tx, tenantId, sealed, finding, claim)),

    /** Stores an extended token, sealed, in the place of the one sealed as `held`, and notes that it is valid; nothing, where `note` would note nothing. */
    extend: async (tenantId: string, held: string, sealed: string, expiresAt: string | null, claim: string): Promise<boolean> =>
      await recordAndEmit(tenantId, async (tx) => {
        const known = await lockWatch(tx, tenantId, held)
        if (known?.next_check_at !== claim) return { noted: false, transition: null }
        await replaceToken(tx, tenantId, held, sealed, expiresAt)
        return await recordIn(tx, tenantId, sealed, { valid: true, expires_at: expiresAt })
      }),

    /** Calls `listener` at each transition; one that throws harms nobody. Returns how to stop that. */
    onTransition (listener: Listener): () => void {
      listeners.add(listener)
      return () => { listeners.delete(listener) }
    },

    /** What is known of the tenant's token: `unverified` with the reason `no_token` when it has none, null when it has no configuration. */
    async healthOf (tenantId: string): Promise<TokenHealth | null> {
      const [row] = await mapDatabaseErrors(statements.health.execute({ tenant_id: tenantId }))
      if (row === undefined) return null
      const { token_status: status, has_token: hasToken, ...rest } = row
      if (!hasToken) return { ...rest, token_status: 'unverified', reason: 'no_token', checked_at: null, next_check_at: null }
      // A token without a watch was loaded while the triggers were off; the next start reconciles it.
      return { ...rest, token_status: status ?? 'unverified' }
    }
  }
}

/** Whether two times, each ISO 8601 or null, are the same to the millisecond. */
function sameTime (one: string | null, other: string | null): boolean {
  return one === null || other === null ? one === other : Date.parse(one) === Date.parse(other)
}

/** Decorates `fastify.tokenWatch`. Makes up for what a load with the triggers off left out, before anything is served. */
async function tokenWatch (fastify: FastifyInstance): Promise<void> {
  const { database, tenantConfigs, log, env } = fastify
  try {
    const found = await database.withoutTimeout(reconcile)
    if (Object.keys(found).length > 0) log.warn({ found }, 'reconciled what was loaded while triggers were off')
  } catch (err) {
    log.warn({ err }, 'could not reconcile what was loaded while triggers were off; the next start tries again')
  }
  fastify.decorate('tokenWatch', createTokenWatch({
    orm: database.orm,
    tenantConfigs,
    interval: env.TOKEN_CHECK_INTERVAL_MS,
    deliversEvents: env.EVENTS_WEBHOOK_URL !== undefined,
    log
  }))
}

export default fp(tokenWatch, { name: 'token-watch', dependencies: ['env', 'database', 'tenant-configs'] })
