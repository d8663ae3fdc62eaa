import t from '../run/tap.js'
import { client, configs } from '../routes/client.js'

const { admin, call, sql } = await client(t)

await sql(`insert into tenant_configs (tenant_id, access_token, is_active, onboarding_completed)
  select 't' || i, case when i % 5 > 0 then 'x' end, i % 3 > 0, i % 7 < 3 from generate_series(1, 90) i`)
await sql("update token_watch set status = case when right(tenant_id, 1) < '4' then 'ok' else 'expiring' end")

/** The ids of all pages. */
async function list (query: string): Promise<unknown[]> {
  const found: unknown[] = []
  for (let cursor = ''; ;) {
    const { body } = await call(admin, 'GET', `${configs}/all?${query}${cursor}`)
    if (!Array.isArray(body.configs)) return [body]
    found.push(...body.configs.map(({ tenant_id: id }) => id))
    if (body.next_cursor === null) return found
    cursor = `&cursor=${String(body.next_cursor)}`
  }
}

await t.test('each combination of filters lists what the rows say, for any page size', async (t) => {
  const flags = [null, true, false]
  for (const isActive of flags) {
    for (const isOnboarded of flags) {
      for (const status of [null, 'ok', 'expiring', 'revoked']) {
        for (const prefix of [null, 't1', 't99']) {
          const rows = await sql(`select tenant_id from tenant_configs left join token_watch using (tenant_id)
            where is_active = coalesce($1, is_active) and onboarding_completed = coalesce($2, onboarding_completed)
              and ($3::text is null or status = $3) and tenant_id like coalesce($4, '') || '%'
            order by tenant_id collate "C"`, [isActive, isOnboarded, status, prefix])
          const filters = Object.entries({
            is_active: isActive, onboarding_completed: isOnboarded, token_status: status, tenant_id: prefix
          }).flatMap(([name, value]) => value === null ? [] : [`${name}=${value}`])
          for (const limit of [4, 200]) {
            const text = [...filters, `limit=${limit}`].join('&')
            t.strictSame(await list(text), rows.map(({ tenant_id: id }) => id), text)
          }
        }
      }
    }
  }
})
