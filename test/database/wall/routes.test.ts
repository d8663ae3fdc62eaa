import t from '../../run/tap.js'
import { listeningService } from '../../fixtures/operations.js'
import { createDatabase, query } from '../../helper.js'
import { migrate } from '../../../src/database/migrations/migrations.js'
import { wallRoles } from '../../../src/database/wall/grants.js'

/** They compare tenants: a number, an account or a login code of another one decides. */
const comparing = ['onboardWhatsappClient', 'startOnboarding', 'verifyConfig']

await t.test('each route of a tenant works as the role of tenants alone, unless it compares tenants', async (t) => {
  const url = await createDatabase(t)
  const { app, operations, create } = await listeningService(t, { url })
  const others = wallRoles.filter((role) => role !== 'tenant').map((role) => `tenant_config_${role}`).join(', ')
  const found: string[] = []
  for (const id of tenantOperations((await app.inject('/docs/json')).json())) {
    const operation = Object.entries(operations).find(([name]) => name === id)?.[1]
    if (operation === undefined) {
      t.fail(`${id} has no request in test/fixtures/operations.ts`)
      continue
    }
    await create()
    await query(url, `revoke all on all tables in schema public from ${others}`)
    // Background work appends the record of what the tenant did.
    await query(url, `grant select, insert on audit_log, audit_checkpoints, audit_outbox
      to tenant_config_worker`)
    const { status } = await operation()
    if (status >= 500) found.push(id)
    await migrate(url)
  }
  t.strictSame(found.sort(), [...comparing].sort())
})

/** The operations that need a tenant's token. */
function tenantOperations ({ paths }: { paths: Record<string, Record<string, { operationId: string }>> }): string[] {
  return Object.entries(paths)
    .filter(([path]) => path.startsWith('/api/v1/tenant/') && !/\/admin\/|account-update|resolve/.test(path))
    .flatMap(([, methods]) => Object.values(methods).map(({ operationId }) => operationId))
}
