import { PgDialect } from 'drizzle-orm/pg-core'
import type { Test } from 'tap'
import { statsQuery } from '../../src/tenant-configs/stats.sql.js'
import { connect, createDatabase } from '../helper.js'

/** The statement of GET /admin/configs/stats. */
export const statsText = new PgDialect().sqlToQuery(statsQuery).sql

/** The same counts of the rows themselves. */
export const plainText = `
  select count(*) as total, count(*) filter (where is_active) as active,
    count(*) filter (where not is_active) as inactive,
    count(*) filter (where onboarding_completed) as onboarded,
    count(*) filter (where not onboarding_completed) as pending,
    count(*) filter (where has_token and token_expires_at <= now()) as expired,
    count(*) filter (where has_token and token_expires_at > now()
      and token_expires_at <= now() + interval '7 days') as expiring_7d,
    count(*) filter (where has_token and token_expires_at > now()
      and token_expires_at <= now() + interval '30 days') as expiring_30d,
    count(*) filter (where has_token and token_expires_at is null) as no_expiry,
    count(*) filter (where not has_token) as missing,
    (select jsonb_object_agg(status, (select count(*) from token_watch where token_watch.status = name.status))
      from unnest('{ok,expiring,expired,revoked,unverified,reauth_required}'::text[]) as name (status)) as token_status,
    (select jsonb_object_agg(status, (select count(*) from phone_numbers where number_status = name.status))
      from unnest('{ok,pending,low_quality,restricted,missing}'::text[]) as name (status))
      || jsonb_build_object('none', count(*) filter (where phone_number_id is null),
        'unknown', count(*) - count(*) filter (where phone_number_id is null)
          - (select count(*) from phone_numbers where number_status <> 'unknown')) as number_status,
    (select coalesce(jsonb_object_agg(key_id, (
        select count(*) from (
          select unnest(array[access_token, fb_app_secret, verify_token, refresh_token]) as sealed from tenant_configs
          union all select unnest(array[access_token, fb_app_secret, verify_token, refresh_token])
          from tenant_config_versions
          union all select unnest(array[access_token, former ->> 'access_token']) from onboardings
          union all select sealed from service_secrets
        ) as stored where sealed ~ ('^v[12][.]' || key_id || '[.]')
      )), '{}') from vault_keys) as keys
  from (select *, access_token is not null as has_token from tenant_configs) as config`

/** Compares both in one statement, so that they have one snapshot and one time. */
const comparison = (stats: string, plain: string) =>
  `select to_jsonb(stats) as stats, to_jsonb(plain) as plain from (${stats}) as stats, (${plain}) as plain`

interface Counts { stats: Record<string, unknown>, plain: Record<string, unknown> }

/** A connection to a new database, or to that of `url`, and the comparison of its statistics with its rows. */
export async function countedDatabase (t: Test, given?: string) {
  const url = given ?? await createDatabase(t)
  const client = await connect(t, url)
  const run = async (text: string) => (await client.query(text)).rows

  /** @param now the time of both statements, in place of that of the transaction */
  async function compare (now = 'now()'): Promise<Counts> {
    const text = comparison(statsText, plainText).replaceAll('now()', now)
    const { rows: [counts] } = await client.query<Counts>(text)
    if (counts === undefined) throw new Error('no counts')
    return counts
  }

  return {
    url,
    client,
    run,
    compare,
    /** Asserts that the statistics are exact; returns them. */
    async assertExact (what: string): Promise<Record<string, unknown>> {
      const { stats, plain } = await compare()
      t.strictSame(stats, plain, what)
      return stats
    },
    /** Folds one batch; returns the number of its changes. */
    fold: async (batch = 5000): Promise<unknown> =>
      (await run(`select config_counts_fold(${batch}) as folded`))[0]?.folded
  }
}
