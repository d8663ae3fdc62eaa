import { Type } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'
import { MalformedJson } from '../errors.js'
import { CHARACTER } from '../schemas/fields.js'

const LAST_SECOND_OF_9999 = 253402300799
const ACCOUNT_ID = new RegExp(`^${CHARACTER}{1,255}$`, 'u')

// Only the parts that are read. Each is checked alone: a malformed one must not hide the others.
const Delivery = Type.Object({ object: Type.Literal('whatsapp_business_account'), entry: Type.Array(Type.Unknown()) })
const Entry = Type.Object({
  id: Type.Optional(Type.Unknown()),
  time: Type.Optional(Type.Unknown()),
  changes: Type.Array(Type.Unknown())
})
const ChangeEntry = Type.Object({
  field: Type.Literal('account_update'),
  value: Type.Object({ event: Type.String(), waba_info: Type.Optional(Type.Unknown()) })
})
const WabaInfo = Type.Object({ waba_id: Type.String() })
const UnixSeconds = Type.Integer({ minimum: 0, maximum: LAST_SECOND_OF_9999 })

/** The event that reports a loss, and its time (Unix seconds; Infinity: unknown). */
export interface Loss { event: string, at: number }

/**
 * Returns the accounts that a delivery reports as lost, each with its latest loss. Throws `MALFORMED_JSON`.
 */
export function lostAccounts (delivery: Buffer): Map<string, Loss> {
  const lost = new Map<string, Loss>()
  const body = parseBody(delivery)
  for (const entry of Value.Check(Delivery, body) ? body.entry : []) {
    if (!Value.Check(Entry, entry)) continue
    const at = Value.Check(UnixSeconds, entry.time) ? entry.time : Infinity
    for (const change of entry.changes) {
      if (!Value.Check(ChangeEntry, change)) continue
      const { event, waba_info: info } = change.value
      const wabaId = lostAccountId(event, Value.Check(WabaInfo, info) ? info.waba_id : undefined, entry.id)
      if (typeof wabaId !== 'string' || !ACCOUNT_ID.test(wabaId)) continue
      const previous = lost.get(wabaId)
      if (previous === undefined || previous.at <= at) lost.set(wabaId, { event, at })
    }
  }
  return lost
}

function parseBody (body: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch {
    throw new MalformedJson()
  }
}

/** Returns the id of the account that an event reports as lost, if it does. */
function lostAccountId (event: string, named: string | undefined, entryId: unknown): unknown {
  switch (event) {
    // Here the id of the entry is that of a business, which may equal the id of another account.
    case 'PARTNER_REMOVED':
    case 'PARTNER_APP_UNINSTALLED': return named
    case 'ACCOUNT_DELETED': return named ?? entryId
    default: return undefined
  }
}
