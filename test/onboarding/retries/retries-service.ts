import type { Test } from 'tap'
import type { EnvSource } from '../../../src/app.js'
import type { TenantEvent } from '../../../src/events/events.js'
import { until } from '../../helper.js'
import { onboardingService, type Body } from '../onboarding-service.js'

/** The onboarding service, with the events of its onboardings and functions that move their retries. */
export async function retriesService (t: Test, env: EnvSource = {}) {
  const service = await onboardingService(t, env)
  const { sql, app } = service
  // No token is due: a check would meet the faults of the onboardings.
  await sql(`create function never_due() returns trigger language plpgsql as $$ begin
      new.next_check_at = '9999-01-01'; return new;
    end $$;
    create trigger never_due before insert or update on token_watch for each row execute function never_due()`)
  const events: TenantEvent[] = []
  app.events.onEvent((event) => { events.push(event) })

  return {
    ...service,

    /** The body of a login with an account of its own: our app must be subscribed there. */
    ownLogin: (body: Body = {}): Body => {
      const account = service.newWaba(1)
      return { code: service.issue({ waba_ids: [account.id] }), waba_id: account.id, ...body }
    },

    /** All events of a tenant. */
    allEventsOf: (tenant: string) => events.filter(({ tenant_id: id }) => id === tenant),

    /** The types and reasons of the onboarding events of a tenant. */
    eventsOf: (tenant: string) => events
      .filter(({ tenant_id: id, type }) => id === tenant && type.startsWith('onboarding.'))
      .map(({ type, reason }) => [type, reason]),

    /** The latest record of the tenant; `wait` is the time until its next retry, in seconds (null: none). */
    retryOf: async (tenant: string) => {
      const [record] = await sql(`select status, access_token, failing_since is not null as is_failing,
        extract(epoch from retry_at - now())::float8 as wait from onboardings
        where tenant_id = $1 order by created_at desc limit 1`, [tenant])
      return { ...record, wait: record?.['wait'] == null ? null : Number(record['wait']) }
    },

    /** Moves the first fault of the tenant's records back by an interval, and makes them due. */
    makeDue: async (tenant: string, since = '0 seconds') => {
      await sql(`update onboardings set retry_at = now(), failing_since = failing_since - $2::interval
        where tenant_id = $1 and retry_at is not null`, [tenant, since])
    },

    /** As if the executor of the tenant's record had died so long ago. */
    killExecutor: async (tenant: string, ago: string) => {
      await sql(`update onboardings set holder = gen_random_uuid(), held_until = now() - $2::interval,
        retry_at = null, failing_since = null where tenant_id = $1 and status = 'in_progress'`, [tenant, ago])
    },

    untilStatus: async (tenant: string, status: string) => {
      await until(async () => (await service.records(tenant)).at(-1)?.['status'] === status)
    }
  }
}
