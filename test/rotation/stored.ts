import { createHash } from 'node:crypto'
import { secretColumns } from '../../src/schemas/columns.js'
import { createVault } from '../../src/vault/vault.js'
import { query } from '../helper.js'

const PAGE = 5000
/** The tenants of `seed` have a UUID as their id. */
const SEEDED = "tenant_id ~ '^[0-9a-f-]{36}$'"

export const digestOf = (secret: string) => createHash('sha256').update(secret).digest('base64')

/** The configurations as version 0, and their former versions. */
const VERSIONS = `(
  select tenant_id, 0 as version, ${secretColumns.join(', ')} from tenant_configs
  union all select tenant_id, version, ${secretColumns.join(', ')} from tenant_config_versions
) versions`

/** Where a secret of a configuration is stored, as a key of `digestSecrets`. */
export const placeOf = (tenantId: string, column: string, version = 0) => `${column} of ${tenantId}, version ${version}`

/** A digest of each stored secret in clear, by its place. Throws when one does not open. */
export async function digestSecrets (url: string, keyRing: string): Promise<Map<string, string>> {
  const vault = createVault({ keyRing })
  const digests = new Map<string, string>()
  let rows: Array<Record<string, unknown>> = []
  do {
    const last = rows.at(-1)
    rows = await query(
      url,
      `select * from ${VERSIONS} where (tenant_id, version) > ($1, $2) order by tenant_id, version limit ${PAGE}`,
      [last?.['tenant_id'] ?? '', last?.['version'] ?? 0]
    )
    for (const row of rows) {
      const tenant = String(row['tenant_id'])
      for (const column of secretColumns.filter((column) => row[column] !== null)) {
        const place = placeOf(tenant, column, Number(row['version']))
        digests.set(place, digestOf(vault.open(String(row[column]), tenant, column)))
      }
    }
  } while (rows.length > 0)
  return digests
}

/** A digest of everything about the seeded tenants but their secrets: a rotation must not change it. */
export async function digestRest (url: string): Promise<unknown> {
  return await query(
    url,
    `select
       (select md5(string_agg(md5((to_jsonb(c) - $1::text[])::text), '' order by id)) from tenant_configs c
         where ${SEEDED}) as configs,
       (select md5(string_agg(md5(to_jsonb(w)::text), '' order by tenant_id)) from token_watch w
         where ${SEEDED}) as watches`,
    [[...secretColumns]]
  )
}

/**
 * Gives each tenth seeded tenant an onboarding that waits, with its token twice, and a former version; gives each one a
 * checked token. Returns how many values the seeded tenants have.
 */
export async function addCopies (url: string): Promise<number> {
  await query(
    url,
    `insert into onboardings (tenant_id, code_hash, status, steps, access_token, former)
     select tenant_id, md5(tenant_id), 'in_progress', '[]', access_token,
       jsonb_build_object('waba_id', waba_id, 'phone_number_id', phone_number_id, 'access_token', access_token)
     from tenant_configs where id % 10 = 0`
  )
  await query(url, 'update tenant_configs set callback_url = null where id % 10 = 0')
  await query(url, "update token_watch set status = 'ok', checked_at = now()")
  const [row] = await query(
    url,
    `select sum(num_nonnulls(${secretColumns.join(', ')}))::int + 2 * (select count(*) from onboardings)::int as count
     from ${VERSIONS}`
  )
  return Number(row?.['count'])
}

/** How many of the waiting onboardings have another token than their configuration by now. */
export async function countTornOnboardings (url: string): Promise<number> {
  const [row] = await query(
    url,
    `select count(*)::int as count from onboardings o join tenant_configs c using (tenant_id) where c.${SEEDED}
     and (o.access_token, o.former ->> 'access_token') is distinct from (c.access_token, c.access_token)`
  )
  return Number(row?.['count'])
}

/** How many tokens of the seeded tenants a key has sealed. */
export async function countTokensOf (url: string, keyId: string): Promise<number> {
  const [row] = await query(
    url,
    `select count(*)::int as count from tenant_configs where starts_with(access_token, $1) and ${SEEDED}`,
    [`v2.${keyId}.`]
  )
  return Number(row?.['count'])
}
