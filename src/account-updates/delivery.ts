import { type Static, Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { MalformedJson } from '../errors.js'
import { CHARACTER, maybe } from '../schemas/fields.js'

/** The meaning of an update for the tenants on its account. */
export type UpdateKind = 'lost' | 'suspended' | 'resumed'

/** An update that can change a tenant. Its words are Meta's. */
export interface AccountUpdate {
  kind: UpdateKind
  event: string
  /** The account that it names, else the id of its entry: that of an account or of a business. */
  accountId: string
  /** The digits of the number that it is about alone; null for the whole account. */
  phoneDigits: string | null
  /** `disconnection_info.reason` */
  reason: string | null
  /** `disconnection_info.initiated_by` */
  initiatedBy: string | null
  /** The `time` of its entry (Unix seconds); null: unknown. */
  at: number | null
}

/** The names in a part of a delivery that was not recognised; never its values, except that of `event`. */
export interface Unrecognised { event: string | null, members: string[] }

const LAST_SECOND_OF_9999 = 253402300799
const MAX_NAMES = 20
const WORD = /^[A-Z][A-Z0-9_]{0,63}$/
const MEMBER = /^[a-z][a-z0-9_]{0,63}$/
const ID = new RegExp(`^${CHARACTER}{1,255}$`, 'u')
const PHONE_NUMBER = /^\+?\d[\d ().-]{0,40}$/
const DIGITS = /^\d{1,15}$/

// Only the parts that are read. Each is checked alone: a malformed one must not hide the others.
const Delivery = Type.Object({ object: Type.Literal('whatsapp_business_account'), entry: Type.Array(Type.Unknown()) })
const Entry = Type.Object({
  id: Type.Optional(Type.Unknown()),
  time: Type.Optional(Type.Unknown()),
  changes: Type.Array(Type.Unknown())
})
const Change = Type.Object({ field: Type.String(), value: Type.Unknown() })
const Update = Type.Object({
  event: Type.String(),
  waba_info: maybe(Type.Object({ waba_id: Type.Optional(Type.Unknown()) })),
  phone_number: Type.Optional(Type.Unknown()),
  ban_info: Type.Optional(Type.Unknown()),
  disconnection_info: Type.Optional(Type.Unknown())
})
const BanInfo = Type.Object({ waba_ban_state: Type.Unknown() })
const DisconnectionInfo = Type.Object({
  reason: Type.Optional(Type.Unknown()),
  initiated_by: Type.Optional(Type.Unknown())
})

/**
 * The documented events; null changes no tenant. `DISABLED_UPDATE` depends on its state.
 * Source: developers.facebook.com/documentation/business-messaging/whatsapp/webhooks, field `account_update`
 */
const KINDS = new Map<string, UpdateKind | null>([
  ['PARTNER_REMOVED', 'lost'],
  ['PARTNER_APP_UNINSTALLED', 'lost'],
  ['ACCOUNT_DELETED', 'lost'],
  ['ACCOUNT_OFFBOARDED', 'suspended'],
  ['ACCOUNT_RECONNECTED', 'resumed'],
  ...[
    'ACCOUNT_RESTRICTION', 'ACCOUNT_VIOLATION', 'AD_ACCOUNT_LINKED', 'AUTH_INTL_PRICE_ELIGIBILITY_UPDATE',
    'BUSINESS_PRIMARY_LOCATION_COUNTRY_UPDATE', 'MM_LITE_TERMS_SIGNED', 'PARTNER_ADDED', 'PARTNER_APP_INSTALLED',
    'PARTNER_CLIENT_CERTIFICATION_STATUS_UPDATE', 'VOLUME_BASED_PRICING_TIER_UPDATE'
  ].map((event): [string, null] => [event, null])
])
const BAN_KINDS = new Map<unknown, UpdateKind | null>([
  ['DISABLE', 'suspended'], ['REINSTATE', 'resumed'], ['SCHEDULE_FOR_DISABLE', null]
])

/**
 * Returns the updates of a delivery that can change a tenant, in its order, and what it does not recognise.
 *
 * @throws MALFORMED_JSON
 */
export function readDelivery (delivery: Buffer): { updates: AccountUpdate[], unrecognised: Unrecognised[] } {
  const updates: AccountUpdate[] = []
  const unrecognised: Unrecognised[] = []
  const body = parseBody(delivery)
  if (!Value.Check(Delivery, body)) return { updates, unrecognised: [namesIn(body)] }
  for (const entry of body.entry) {
    if (!Value.Check(Entry, entry)) {
      unrecognised.push(namesIn(entry))
      continue
    }
    for (const change of entry.changes) {
      if (!Value.Check(Change, change)) unrecognised.push(namesIn(change))
      else if (change.field === 'account_update') {
        const update = Value.Check(Update, change.value) ? readUpdate(change.value, entry) : undefined
        if (update === undefined) unrecognised.push(namesIn(change.value))
        else if (update !== null) updates.push(update)
      }
    }
  }
  return { updates, unrecognised }
}

function parseBody (body: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch {
    throw new MalformedJson()
  }
}

/** Returns null for an update that changes no tenant, and undefined for one that is not recognised. */
function readUpdate (value: Static<typeof Update>, entry: Static<typeof Entry>): AccountUpdate | null | undefined {
  const { event, waba_info: info, phone_number: phone, disconnection_info: disconnection } = value
  const kind = kindOf(value)
  if (kind == null) return kind
  const accountId = idOf(info?.waba_id ?? entry.id)
  // Without a readable number the update would be about the whole account.
  const phoneDigits = phone == null ? null : digitsOf(phone)
  if (accountId === undefined || phoneDigits === undefined) return undefined
  const { reason, initiated_by: initiator } = Value.Check(DisconnectionInfo, disconnection) ? disconnection : {}
  return {
    kind, event, accountId, phoneDigits, reason: wordOf(reason), initiatedBy: wordOf(initiator), at: timeOf(entry.time)
  }
}

function kindOf ({ event, ban_info: ban }: Static<typeof Update>): UpdateKind | null | undefined {
  if (event !== 'DISABLED_UPDATE') return KINDS.get(event)
  if (!Value.Check(BanInfo, ban)) return undefined
  // Samples of older pages have a list.
  const [state, ...others] = [ban.waba_ban_state].flat()
  return others.length === 0 ? BAN_KINDS.get(state) : undefined
}

/** An id may come as a JSON number, which is exact only as a safe integer. */
function idOf (value: unknown): string | undefined {
  const id = textOf(value)
  return id !== undefined && ID.test(id) ? id : undefined
}

function digitsOf (value: unknown): string | undefined {
  const phone = textOf(value)
  const digits = phone !== undefined && PHONE_NUMBER.test(phone) ? phone.replace(/\D/g, '') : ''
  return DIGITS.test(digits) ? digits : undefined
}

function timeOf (value: unknown): number | null {
  const text = textOf(value)
  const seconds = text !== undefined && /^\d+$/.test(text) ? Number(text) : Infinity
  return seconds <= LAST_SECOND_OF_9999 ? seconds : null
}

function textOf (value: unknown): string | undefined {
  return typeof value === 'string' ? value : Number.isSafeInteger(value) ? String(value) : undefined
}

function wordOf (value: unknown): string | null {
  return typeof value === 'string' && WORD.test(value) ? value : null
}

function namesIn (part: unknown): Unrecognised {
  const members = typeof part === 'object' && part !== null && !Array.isArray(part) ? Object.entries(part) : []
  const names = members.map(([name]) => name).filter((name) => MEMBER.test(name))
  return { event: wordOf(new Map(members).get('event')), members: names.slice(0, MAX_NAMES) }
}
