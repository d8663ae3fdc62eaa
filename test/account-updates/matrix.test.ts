import t from '../run/tap.js'
import { uniqueNumber, webhookService } from './deliveries.js'

const { app, sql, deliver } = await webhookService(t)

const TIME = 1_700_000_000
const NUMBER = '16315551001'
const REASON = { reason: 'PRIMARY_INACTIVITY', initiated_by: 'SYSTEM' }

type Kind = 'lost' | 'suspended' | 'resumed' | 'neutral'

/** Every documented event, with its ban state. */
const EVENTS: Array<[kind: Kind, event: string, banState?: unknown]> = [
  ['lost', 'PARTNER_REMOVED'],
  ['lost', 'PARTNER_APP_UNINSTALLED'],
  ['lost', 'ACCOUNT_DELETED'],
  ['suspended', 'ACCOUNT_OFFBOARDED'],
  ['suspended', 'DISABLED_UPDATE', 'DISABLE'],
  ['suspended', 'DISABLED_UPDATE', ['DISABLE']],
  ['resumed', 'ACCOUNT_RECONNECTED'],
  ['resumed', 'DISABLED_UPDATE', 'REINSTATE'],
  ['neutral', 'DISABLED_UPDATE', 'SCHEDULE_FOR_DISABLE'],
  ['neutral', 'ACCOUNT_RESTRICTION'],
  ['neutral', 'ACCOUNT_VIOLATION'],
  ['neutral', 'AD_ACCOUNT_LINKED'],
  ['neutral', 'AUTH_INTL_PRICE_ELIGIBILITY_UPDATE'],
  ['neutral', 'BUSINESS_PRIMARY_LOCATION_COUNTRY_UPDATE'],
  ['neutral', 'MM_LITE_TERMS_SIGNED'],
  ['neutral', 'PARTNER_ADDED'],
  ['neutral', 'PARTNER_APP_INSTALLED'],
  ['neutral', 'PARTNER_CLIENT_CERTIFICATION_STATUS_UPDATE'],
  ['neutral', 'VOLUME_BASED_PRICING_TIER_UPDATE']
]

/** The state before: `later` was onboarded after the event; `held` is suspended, and a person had turned it off. */
const STATES = ['active', 'off', 'later', 'suspended', 'held', 'lost'] as const

type State = typeof STATES[number]

/** The state after; `turned_off`: an update did it. `told`: the reason is that of the update. */
interface After {
  is_active: boolean
  status: 'ok' | 'suspended' | 'lost'
  turned_off: boolean
  told: boolean
  isCheckDue?: true
  from?: string
}

const before: Record<State, After> = {
  active: { is_active: true, status: 'ok', turned_off: false, told: false },
  off: { is_active: false, status: 'ok', turned_off: false, told: false },
  later: { is_active: true, status: 'ok', turned_off: false, told: false },
  suspended: { is_active: false, status: 'suspended', turned_off: true, told: false },
  held: { is_active: false, status: 'suspended', turned_off: false, told: false },
  lost: { is_active: false, status: 'lost', turned_off: false, told: false }
}
const lost: After = { is_active: false, status: 'lost', turned_off: false, told: true }
const held: After = { is_active: false, status: 'suspended', turned_off: false, told: true }
const suspended: After = { is_active: false, status: 'suspended', turned_off: true, told: true }

const after: Record<Kind, Record<State, After>> = {
  neutral: before,
  lost: {
    active: { ...lost, from: 'ok' },
    off: { ...lost, from: 'ok' },
    later: before.later,
    suspended: { ...lost, from: 'suspended' },
    held: { ...lost, from: 'suspended' },
    lost
  },
  suspended: {
    active: { ...suspended, from: 'ok' },
    off: held,
    later: before.later,
    suspended,
    held,
    lost: before.lost
  },
  resumed: { ...before, suspended: { ...before.suspended, isCheckDue: true }, held: before.off }
}

/** A delivery about one or two tenants of an account, both in the same state. */
interface Case { id: string, state: State, hasInfo: boolean, isNarrowed: boolean, isShared: boolean }

const both = [false, true]
const casesOf = (prefix: string): Case[] => STATES.flatMap((state) =>
  both.flatMap((hasInfo) => both.flatMap((isNarrowed) => both.map((isShared) => ({
    id: [prefix, state, hasInfo && 'named', isNarrowed && 'narrowed', isShared && 'shared'].filter(Boolean).join(' '),
    state,
    hasInfo,
    isNarrowed,
    isShared
  })))))

/** Inserts the tenants of the cases. Only the first tenant of an account has the number. */
async function insert (cases: Case[]): Promise<void> {
  const tenants = cases.flatMap(({ id, state, isShared }) => {
    const onboarded = TIME + (state === 'later' ? 60 : -60)
    const first = { tenant_id: id, waba_id: id, display: '+1 631-555-1001', onboarded, ...before[state] }
    return isShared ? [first, { ...first, tenant_id: `${id} too`, display: '+1 (631) 555 1002' }] : [first]
  })
  const rows = `jsonb_to_recordset($1::jsonb) as t (tenant_id text, waba_id text, display text, onboarded float8,
    is_active boolean, status text, turned_off boolean)`
  const values = [JSON.stringify(tenants)]
  await sql(`insert into tenant_configs (tenant_id, waba_id, phone_number_id, access_token, is_active, onboarded_at)
    select tenant_id, waba_id, tenant_id, 'sealed', is_active, to_timestamp(onboarded) from ${rows}`, values)
  await sql(`insert into phone_numbers (tenant_id, phone_number_id, display_phone_number)
    select tenant_id, tenant_id, display from ${rows}`, values)
  await sql(`insert into account_states (tenant_id, status, event, turned_off, acted_at)
    select tenant_id, status, 'BEFORE', turned_off, to_timestamp(${TIME - 1})
    from ${rows} where status <> 'ok'`, values)
}

/** The delivery of a case. */
function deliveryOf (event: string, banState: unknown, { id, hasInfo, isNarrowed, isShared }: Case) {
  const value = {
    event,
    ...hasInfo && { waba_info: { waba_id: id, owner_business_id: '1' } },
    ...isNarrowed && { phone_number: NUMBER },
    ...isShared && { disconnection_info: REASON },
    ...banState !== undefined && { ban_info: { waba_ban_state: banState, waba_ban_date: 'today' } }
  }
  const entry = [{ id: hasInfo ? '1' : id, time: TIME, changes: [{ field: 'account_update', value }] }]
  return { object: 'whatsapp_business_account', entry, nonce: uniqueNumber() }
}

/** The states of tenants, as the database has them and as the health shows them. */
async function statesOf (tenants: string[]): Promise<unknown[]> {
  const rows = await sql(`select is_active, coalesce(turned_off, false) as turned_off,
      resume_at is not null as "isCheckDue"
    from unnest($1::text[]) with ordinality as t (tenant_id, place) join tenant_configs using (tenant_id)
    left join account_states using (tenant_id) order by place`, [tenants])
  return await Promise.all(tenants.map(async (tenant, i) => {
    const health = await app.tokenWatch.healthOf(tenant)
    return {
      tenant,
      ...rows[i],
      status: health?.account_status,
      reason: health?.account_reason,
      initiated_by: health?.account_initiated_by,
      token: [health?.token_status, health?.reason]
    }
  }))
}

for (const [kind, event, banState] of EVENTS) {
  const name = [event, banState].flat().filter(Boolean).join(' ')
  await t.test(`${name} leaves each tenant in its state`, async (t) => {
    const cases = casesOf(JSON.stringify([event, banState]))
    await insert(cases)
    const events: unknown[] = []
    t.teardown(app.events.onEvent(({ type, tenant_id, from, to, reason }) => {
      if (type.startsWith('account.')) events.push([tenant_id, type, from, to, reason])
    }))
    for (const each of cases) t.equal(await deliver(deliveryOf(event, banState, each)), '200')

    const expectedEvents: unknown[] = []
    const expectedStates = cases.flatMap(({ id, state, isNarrowed, isShared }) =>
      (isShared ? [id, `${id} too`] : [id]).map((tenant) => {
        const isConcerned = tenant === id || !isNarrowed
        const { told, isCheckDue = false, from, ...expected } = isConcerned ? after[kind][state] : before[state]
        const reason = isShared ? REASON.reason : event
        if (from !== undefined) {
          expectedEvents.push([tenant, `account.${expected.status}`, from, expected.status, reason])
        }
        return {
          tenant,
          ...expected,
          isCheckDue,
          reason: told ? reason : expected.status === 'ok' ? null : 'BEFORE',
          initiated_by: told && isShared ? REASON.initiated_by : null,
          token: expected.status === 'lost' && told ? ['revoked', event] : ['unverified', null]
        }
      }))
    t.same(await statesOf(expectedStates.map(({ tenant }) => tenant)), expectedStates)
    t.same(events, expectedEvents)
  })
}
