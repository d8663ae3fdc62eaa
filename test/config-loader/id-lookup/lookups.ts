import type { Test } from 'tap'
import { verifyEachRow } from '../../fixtures/verified-rows.js'
import { buildTestApp, query } from '../../helper.js'

/** Creates a service and its lookups by id, which return tenant ids. `psql` writes from outside the service. */
export async function createLookups (t: Test, env: Record<string, string | number>) {
  const { app, databaseUrl } = await buildTestApp(t, env)
  const { configLoader, tenantConfigs } = app
  const byNumber = async (id: string) => (await configLoader.forPhoneNumber(id))?.getTenantId() ?? null
  const byWaba = async (id: string) => (await configLoader.forWaba(id)).map((snapshot) => snapshot.getTenantId())
  const psql = async (sql: string) => await query(databaseUrl, sql)
  return { app, databaseUrl, configLoader, tenantConfigs, byNumber, byWaba, psql }
}

/** Creates a service with three verified tenants, each with its number, on WABA 7. */
export async function createSharedWaba (t: Test) {
  const lookups = await createLookups(t, { CONFIG_CACHE_TTL_MS: 60_000 })
  const { configLoader, tenantConfigs, databaseUrl } = lookups
  t.equal(configLoader.stats().channel, 'up')
  await verifyEachRow(databaseUrl)
  for (const [tenant, phone_number_id] of [['a', '1'], ['b', '2'], ['c', '3']] as const) {
    await tenantConfigs.create(tenant, null, { phone_number_id, waba_id: '7', access_token: `token of ${tenant}` })
  }
  return lookups
}
