import { randomUUID } from 'node:crypto'
import type { Test } from 'tap'
import type { EnvSource } from '../../src/app.js'
import { until } from '../helper.js'
import { onboardingService, type Body } from '../onboarding/onboarding-service.js'
import { config, onboard, type Answer, type Client } from '../routes/client.js'

export const resume = `${onboard}/resume`

/** All routes that honour `Idempotency-Key`. */
export const idempotentRoutes = [config, onboard, resume]

/** The service with a stand-in of Meta, and requests with an idempotency key. */
export async function idempotencyService (t: Test, env: EnvSource = {}) {
  const service = await onboardingService(t, env)

  return {
    ...service,

    send: sendTo(service),

    /** The stored keys of a tenant. */
    keys: async (tenant: string) =>
      await service.sql('select * from idempotency_keys where tenant_id = $1 order by expires_at', [tenant]),

    /** Waits until no request holds a lease on a key of the tenant. A 503 leaves before its lease ends. */
    untilReleased: async (tenant: string) => {
      await until(async () => (await service.sql(
        'select from idempotency_keys where tenant_id = $1 and answer is null and leased_until > now()', [tenant]
      )).length === 0)
    },

    /** Ends the leases of the tenant's keys, as if their process had crashed long ago. */
    expireLeases: async (tenant: string) => {
      await service.sql('update idempotency_keys set leased_until = now() where tenant_id = $1', [tenant])
    }
  }
}

/** Returns a function that sends a POST with an idempotency key to one instance. */
export const sendTo = ({ as, call }: Pick<Client, 'as' | 'call'>) =>
  async (tenant: string, key: string, url: string, body?: Body): Promise<Answer> =>
    await call({ ...as(tenant), 'idempotency-key': key }, 'POST', url, body)

export const newKey = () => randomUUID()

/** Whether an answer is marked as the repetition of an earlier one. */
export const isReplay = ({ headers }: Answer) => headers['idempotent-replayed'] === 'true'

/** The parts of an answer that a repeated request gets unchanged. */
export const essence = ({ is, body, headers }: Answer) =>
  ({ is, body, type: headers['content-type'], location: headers['location'], etag: headers['etag'] })
