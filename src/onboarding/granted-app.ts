import type { OnboardingRow } from '../database/schema/onboardings.js'
import { OnboardingSuperseded } from '../errors.js'
import type { MetaGraph } from '../meta/meta-graph.js'
import type { MetaApp } from '../meta/types.js'
import type { TenantConfigs } from '../tenant-configs/tenant-configs.js'
import { stepOf } from './record.js'

interface GrantedAppDependencies {
  tenantConfigs: Pick<TenantConfigs, 'find'>
  metaGraph: Pick<MetaGraph, 'appOf'>
}

/** Returns `grantedApp`, which finds the app to continue an onboarding with. */
export function createGrantedApp ({ tenantConfigs, metaGraph }: GrantedAppDependencies) {
  /**
   * @throws `ONBOARDING_SUPERSEDED` when the tenant has another app now: the token works with its own alone;
   * `META_APP_NOT_CONFIGURED`, `SECRET_UNREADABLE`, `DATABASE_UNAVAILABLE`
   */
  return async function grantedApp (record: OnboardingRow): Promise<MetaApp> {
    const app = metaGraph.appOf(await tenantConfigs.find(record.tenant_id))
    const grantedTo = stepOf(record, 'exchange').evidence?.['app_id'] ?? app.id
    if (grantedTo !== app.id) throw new OnboardingSuperseded()
    return app
  }
}
