import { randomBytes, randomUUID } from 'node:crypto'
import pg from 'pg'
import { createVault } from '../../../src/vault/vault.js'
import { query } from '../../helper.js'

const BATCH = 5000

/** One row of each tenant; its triggers fire as usual. */
const insert = `
  insert into tenant_configs (tenant_id, user_id, waba_id, phone_number_id, access_token, fb_app_id, fb_app_secret,
    callback_url, redirect_url, verify_token,
    token_expires_at, onboarding_completed, onboarded_at, last_verified_at)
  select id, 'user-' || id, waba, phone, token, '670843887433847', app_secret,
    'https://' || id || '.example.com/webhooks/whatsapp', 'https://' || id || '.example.com/oauth/done', verify,
    now() + interval '60 days', true, now(), now()
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
    as tenant (id, waba, phone, token, app_secret, verify)`

/** A random token with the form and the usual length of Meta's. */
export const accessToken = () => `EAAG${randomBytes(147).toString('base64url')}`

/** Fills `tenant_configs` with tenants whose secrets are sealed; returns their ids in the order of the rows. */
export async function seed (url: string, keyRing: string, count: number): Promise<string[]> {
  const vault = createVault({ keyRing })
  const client = await connected(url)
  const ids: string[] = []
  let inserting: Promise<unknown> = Promise.resolve()
  while (ids.length < count) {
    const batch = Array.from({ length: BATCH }, (_, row) => tenant(vault, ids.length + row))
    ids.push(...batch.map(([id]) => id))
    // The next batch was sealed during the previous insert.
    await inserting
    inserting = client.query(insert, [0, 1, 2, 3, 4, 5].map((column) => batch.map((values) => values[column])))
  }
  await inserting
  await client.query('vacuum analyze')
  await client.query('checkpoint')
  await client.end()
  return ids
}

function tenant ({ seal }: ReturnType<typeof createVault>, row: number): [id: string, ...rest: string[]] {
  const id = randomUUID()
  const account = String(102290129340398 + row)
  const phone = String(306540352242922 + row)
  const secrets = [
    seal(accessToken(), id, 'access_token'),
    seal(randomBytes(16).toString('hex'), id, 'fb_app_secret'),
    seal(randomBytes(24).toString('base64url'), id, 'verify_token')
  ]
  return [id, account, phone, ...secrets]
}

/** A row whose secrets are never opened: the sealed values have only the right form and length. */
const placeholders = `
  insert into tenant_configs (tenant_id, user_id, waba_id, phone_number_id, access_token, fb_app_id, fb_app_secret,
    callback_url, redirect_url, verify_token,
    token_expires_at, is_active, onboarding_completed, onboarded_at, last_verified_at)
  select 'tenant-' || i, 'user-' || i, (102290129340398 + i)::text, (306540352242922 + i)::text,
    case when i % 20 > 0 then rpad('v1.b1.', 310, md5(i::text)) end, '670843887433847',
    rpad('v1.b1.', 86, md5(i::text)), 'https://tenant-' || i || '.example.com/webhooks/whatsapp',
    'https://tenant-' || i || '.example.com/oauth/done', rpad('v1.b1.', 86, md5(i::text)),
    case when i % 7 > 0 then now() + (i % 90 - 5) * interval '1 day' end, i % 10 > 0, i % 4 > 0, now(), now()
  from generate_series($1::int, $2::int) as i`

/**
 * Fills `tenant_configs` with very many tenants, to count and to list. Two connections, because PostgreSQL uses one
 * core for each.
 */
export async function seedPlaceholders (url: string, count: number): Promise<void> {
  // Otherwise autovacuum would still run during the measurement; the tables are vacuumed below.
  await query(
    url,
    'alter table tenant_configs set (autovacuum_enabled = off); alter table token_watch set (autovacuum_enabled = off)'
  )
  await Promise.all([[1, count / 2], [count / 2 + 1, count]].map(async (range) => {
    const client = await connected(url)
    await client.query(placeholders, range)
    await client.end()
  }))
  const client = await connected(url)
  await client.query('vacuum analyze')
  await client.query('checkpoint')
  await client.end()
}

async function connected (url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  await client.query('set synchronous_commit = off')
  return client
}
