import type { Database } from '../database/database.js'
import type { OnboardingRow } from '../database/schema/onboardings.js'
import type { Queryable } from '../database/statement.js'
import { MetaExchangeUnknown } from '../errors.js'
import type { Events } from '../events/events.js'
import { failUnknownExchange } from './onboardings.sql.js'
import { withStep } from './record.js'

/** How an onboarding ended, with the code of its error, or what it waits for. */
export interface Outcome { to: 'failed' | 'waiting', reason: string }

export type Outcomes = ReturnType<typeof createOutcomes>

interface OutcomeDependencies {
  database: Pick<Database, 'transaction'>
  events: Pick<Events, 'record' | 'emit'>
}

/** Reports how onboardings end, or what they wait for, as events. */
export function createOutcomes ({ database, events }: OutcomeDependencies) {
  return {
    report,

    /** Fails an onboarding whose executor vanished while the code was on its way to Meta. */
    async failLostExchange ({ id, tenant_id: tenantId, steps }: OnboardingRow): Promise<void> {
      const { code, message: advice } = new MetaExchangeUnknown()
      const error = { code, meta_code: null, meta_subcode: null, fbtrace_id: null, advice }
      const failed = withStep(steps, 'exchange', { status: 'failed', error })
      await report(tenantId, { to: 'failed', reason: code }, async (tx) => await failUnknownExchange(tx, id, failed))
    }
  }

  /** Runs writes in a transaction; unless they return false, it records the outcome with them. */
  async function report (
    tenantId: string, { to, reason }: Outcome, write: (tx: Queryable) => Promise<boolean>
  ): Promise<void> {
    const event = await database.transaction(async (tx) => await write(tx)
      ? await events.record(tx, { type: `onboarding.${to}`, tenant_id: tenantId, from: 'in_progress', to, reason })
      : null)
    if (event !== null) events.emit(event)
  }
}
