import type { FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import type { MetaApps } from './meta-apps.js'
import type { MetaGraph } from './meta-graph.js'
import type { TenantConfigRow, TenantConfigs } from './tenant-configs.js'

declare module 'fastify' {
  interface FastifyInstance { onboarding: Onboarding }
}

/** What turns a Meta login into stored credentials. */
export type Onboarding = ReturnType<typeof createOnboarding>

/** Who onboards, and what the Meta login left behind: its code, and the account it says was granted. */
export interface OnboardingInput {
  tenantId: string
  userId: string | null
  code: string
  waba_id: string
  phone_number_id: string
  redirect_uri?: string | undefined
}

/** Turns a Meta login into proven, stored credentials. */
export function createOnboarding ({ tenantConfigs, metaApps, metaGraph }: {
  tenantConfigs: Pick<TenantConfigs, 'find' | 'completeOnboarding'>
  metaApps: MetaApps
  metaGraph: MetaGraph
}) {
  return {
    /**
     * Exchanges the code, proves that the token sees the WABA and the phone number in it, and stores all of it at once;
     * nothing is stored when anything fails. Returns the row, and whether the tenant had none before.
     * Throws `DATABASE_UNAVAILABLE` before the code is spent, `META_APP_NOT_CONFIGURED`, `SECRET_UNREADABLE`,
     * `PHONE_NUMBER_TAKEN` and what the calls to Meta throw.
     */
    async complete (input: OnboardingInput): Promise<{ created: boolean, config: TenantConfigRow }> {
      const app = metaApps.of(await tenantConfigs.find(input.tenantId))
      const granted = await metaGraph.exchangeCode(app, input)
      const inspected = await metaGraph.inspectToken(app, granted.access_token)
      await metaGraph.assertPhoneNumber(app, granted.access_token, input.waba_id, input.phone_number_id)
      return await tenantConfigs.completeOnboarding(input.tenantId, input.userId, {
        waba_id: input.waba_id,
        phone_number_id: input.phone_number_id,
        access_token: granted.access_token,
        // debug_token speaks of the token itself, so its "never" counts too; the exchange may leave its life out.
        token_expires_at: inspected.expires_at === undefined ? granted.expires_at : inspected.expires_at
      })
    }
  }
}

/** Decorates `fastify.onboarding`. */
async function onboarding (fastify: FastifyInstance): Promise<void> {
  fastify.decorate('onboarding', createOnboarding(fastify))
}

export default fp(onboarding, { name: 'onboarding', dependencies: ['meta-apps', 'tenant-configs', 'meta-graph'] })
