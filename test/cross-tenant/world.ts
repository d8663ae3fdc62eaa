import type { Test } from 'tap'
import { tableWalls } from '../../src/database/wall/grants.js'
import { app as platform, standIn } from '../meta/wire.js'
import {
  base, client, config, configs, onboard, serviceKeys, type Answer, type Client, type Who
} from '../routes/client.js'

export const OWN = 'tenant-a'
export const OTHER = 'the-other-tenant'
const OTHER_USER = 'user-of-the-other-tenant'

/** What each tenant has at Meta. */
export const own = { waba_id: '900100', phone_number_id: '900101' }
const other = { waba_id: '900200', phone_number_id: '900201' }
/** A configuration that claims the ids of the other tenant, with a token that Meta refuses. */
export const claimed = { ...other, access_token: 'own-token' }

/** The credentials of the other tenant, and its URLs. */
const secrets = {
  access_token: 'EAAG-token-of-the-other-tenant',
  fb_app_id: '900299',
  fb_app_secret: 'app-secret-of-the-other-tenant',
  verify_token: 'verify-token-of-the-other-tenant',
  refresh_token: 'refresh-token-of-the-other-tenant',
  callback_url: 'https://the-other-tenant.example/hook',
  redirect_url: 'https://the-other-tenant.example/done'
}
/** A value of the other tenant that no request of these tests contains. */
export const UNSENT = 'never-sent'
/** A code that the other tenant has used. */
const CODE = 'AQ-code-of-the-other-tenant'
const PIN = '190285'

/** What the other tenant sent with its idempotency keys, by the id of the operation. */
export const repeated = {
  createConfig: { key: 'key-1-of-the-other-tenant', body: { ...other, verify_token: secrets.verify_token } },
  onboardWhatsappClient: { key: 'key-2-of-the-other-tenant', body: { ...other, code: CODE, pin: PIN } },
  resumeOnboarding: { key: 'key-3-of-the-other-tenant', body: { phone_number_id: other.phone_number_id } }
}

/** The rows of the other tenant in each table, with the transaction that wrote each; null for none. */
const ROWS = Object.keys(tableWalls).map((table) => `select '${table}' as table,
  array_agg(xmin::text || ' ' || t::text order by t::text) as rows from ${table} t
  where coalesce(to_jsonb(t)->>'tenant_id' = $1, t::text like any($2))`).join(' union all ')

/** Everything of the other tenant that a request can name, by the name of its place. */
export type OtherValues = Record<string, unknown[]>

/** The service with a stand-in of Meta, and the tenant whose token is used. */
export async function world (t: Test) {
  const { meta } = await standIn(t)
  // Its random text would differ from world to world.
  const mint = meta.state.mint.bind(meta.state)
  meta.state.mint = (token) => mint(token, `EAA-granted-for-${String(token.waba_ids)}`)
  const service = await client(t, {
    GRAPH_API_BASE_URL: meta.url,
    FB_APP_ID: platform.id,
    FB_APP_SECRET: platform.secret,
    OAUTH_REDIRECT_URIS: 'https://a.example/cb',
    WHATSAPP_TOKEN: 'token-of-the-platform',
    WHATSAPP_PHONE_ID: '900301',
    WHATSAPP_WABA_ID: '900300'
  })
  const { app, as, admin, call, sql } = service
  for (const { waba_id: id, phone_number_id: phone } of [own, other]) {
    meta.state.addWaba({ id, app_ids: [platform.id], phones: [{ id: phone, display_phone_number: `+1 ${phone}` }] })
  }
  const who = as(OWN, 'user-a')
  let codes = 0
  /** A new code of the own tenant, whose token reaches its own account alone. */
  const code = () =>
    meta.state.issueCode({ app_id: platform.id, waba_ids: [own.waba_id], code: `AQ-own-${++codes}`, expires_in: 0 })

  const created = await call(who, 'POST', config, own)
  t.equal(created.is, '201')
  t.equal((await call(who, 'POST', onboard, { code: code(), ...own, pin: PIN })).is, '200')
  const { body: { key } } = await call(admin, 'POST', serviceKeys, {
    name: 'own', scopes: ['credentials:read', 'configs:read', 'onboarding:links'], tenants: [OWN]
  })

  return {
    ...service,
    meta,
    who,
    code,
    key: { authorization: `Bearer ${String(key)}` } satisfies Who,
    /** Gives the own tenant its configuration back. */
    async restore (): Promise<void> {
      const change = { ...own, access_token: 'own-token', callback_url: null }
      const { is, body } = await call(who, 'PUT', config, change)
      if (is !== '200') await call(who, 'POST', config, change)
      else if (body['is_active'] !== true) await call(who, 'POST', `${config}/activate`)
    },
    /** Lets Meta and the sequence of ids be as in the world with the other tenant. */
    async adapt ({ sql: sqlOfShared }: Pick<Client, 'sql'>): Promise<void> {
      meta.state.issueCode({ app_id: platform.id, waba_ids: [other.waba_id], code: CODE })
      const entry = meta.state.codes.get(CODE)
      if (entry !== undefined) entry.used = true
      const [{ last = 0 } = {}] = await sqlOfShared('select last_value as last from tenant_configs_id_seq')
      await sql("select setval('tenant_configs_id_seq', $1)", [last])
    },
    /** Every row of the other tenant, by table, with the transaction that wrote it. */
    async rowsOfOther (): Promise<Record<string, unknown>> {
      await app.audit.settled()
      const found = await sql(ROWS, [OTHER, [OTHER, ...Object.values(other)].map((value) => `%${value}%`)])
      return Object.fromEntries(found.map(({ table, rows }) => [table, rows]))
    }
  }
}

export type World = Awaited<ReturnType<typeof world>>

/** Adds the other tenant with rows in every table, and returns all that a request can name of it. */
export async function addOther (t: Test, { app, as, admin, call, sql, meta }: World): Promise<OtherValues> {
  const who = as(OTHER, OTHER_USER)
  const send = async (method: string, url: string, body?: unknown, headers: Who = {}): Promise<Answer> => {
    const answer = await call(who, method, url, body, headers)
    t.match(answer.is, /^20[01]$/, `${method} ${url}`)
    return answer
  }
  const repeat = async (url: string, { key, body }: { key: string, body: object }) =>
    await send('POST', url, body, { 'idempotency-key': key })
  const etags = [(await repeat(config, repeated.createConfig)).headers.etag]
  meta.state.issueCode({ app_id: platform.id, waba_ids: [other.waba_id], code: CODE })
  await repeat(onboard, repeated.onboardWhatsappClient)
  await repeat(`${onboard}/resume`, repeated.resumeOnboarding)
  for (let i = 0; i < 5; i++) {
    etags.push((await send('PUT', config, { callback_url: `${secrets.callback_url}/${UNSENT}/${i}` })).headers.etag)
  }
  await send('PUT', config, { callback_url: secrets.callback_url })
  const { body: started } = await send('POST', `${onboard}/start`, { redirect_uri: 'https://a.example/cb' })
  await send('GET', `${config}/full`)
  // From now on its credentials are those of an app of its own.
  await send('PUT', config, secrets)
  await app.audit.settled()
  const { body: created } = await call(admin, 'POST', serviceKeys, {
    name: OTHER, scopes: ['credentials:read'], tenants: [OTHER]
  })
  await sql(`
    insert into tenant_config_versions select (jsonb_populate_record(v, '{"version": 999}')).*
      from tenant_config_versions v where tenant_id = '${OTHER}' and version = 1;
    insert into account_states (tenant_id) values ('${OTHER}');
    insert into events_outbox (type, tenant_id, "from", "to", next_attempt_at)
      values ('token.revoked', '${OTHER}', 'ok', 'revoked', now() + interval '1 day');
    insert into events_ended (type, tenant_id, "from", "to", state)
      values ('token.revoked', '${OTHER}', 'ok', 'revoked', 'failed');
    insert into phone_callbacks (phone_number_id) values ('${other.phone_number_id}') on conflict do nothing;
    insert into audit_checkpoints (tenant_id, seq, hmac, signature) values ('${OTHER}', 0, 'x', 'x');
    insert into audit_outbox (tenant_id, seq, previous_hmac) values ('${OTHER}', 1, 'x')`)
  const ids = await sql(`
    select id::text from onboardings where tenant_id = '${OTHER}'
    union all select id::text from events_ended where tenant_id = '${OTHER}'
    union all select id::text from tenant_configs where tenant_id = '${OTHER}'`)
  const current = (await send('GET', config)).headers.etag
  const pages = await Promise.all([
    call(who, 'GET', `${config}/audit?limit=1`), call(who, 'GET', `${config}/versions?limit=1`),
    call(admin, 'GET', `${configs}/all?limit=1&tenant_id=${OTHER.slice(0, 3)}`),
    call(admin, 'GET', `${base}/admin/audit?limit=1&tenant_id=${OTHER}`),
    call(admin, 'GET', `${base}/admin/events?limit=1`)
  ])
  return {
    tenant_id: [OTHER],
    tenants: [[OTHER]],
    actor: [OTHER_USER],
    id: [OTHER, created['id'], ...ids.map(({ id }) => id)],
    n: ['999', 'previous'],
    cursor: pages.map(({ body }) => body['next_cursor']).filter((cursor) => typeof cursor === 'string'),
    'if-match': [current, etags.join(', ')],
    'if-none-match': [current, etags.join(', ')],
    'idempotency-key': Object.values(repeated).map(({ key }) => key),
    ...Object.fromEntries(Object.entries({ ...other, ...secrets, code: CODE }).map(([name, value]) => [name, [value]])),
    redirect_uri: [secrets.redirect_url],
    state: [new URL(String(started['authorization_url'])).searchParams.get('state')]
  }
}
