import type { AuditRow } from '../database/schema/audit.js'
import { follows, hmacOf, NO_RECORDS, signCheckpoint, type Checkpoint, type Head } from './chain.js'

/** The kinds of a broken link. A changed last record is `forged` too: no record after it tells the two apart. */
export type BreakKind = 'tampered' | 'reordered' | 'missing' | 'forged' | 'truncated'

/** The first broken link of a chain: `seq` is the record that is wrong, or that is not there. */
export interface BrokenLink { tenant_id: string, seq: number, kind: BreakKind, detail: string }

/** A record, or the checkpoint that replaced those up to it. */
export type ChainPart = { record: AuditRow } | { checkpoint: Checkpoint }

/** Records from the broken link on that are searched for the right one. */
const MAX_SUSPECTS = 1000

/** The chain that is being read. */
interface Chain {
  tenant_id: string
  /** The last record that holds. */
  head: Head
  /** The records from the broken link on. */
  suspects: AuditRow[]
  isBroken: boolean
}

/**
 * Verifies chains: `add` takes the parts of each chain in their order, one chain after the other.
 *
 * @param noted the heads of chains by tenant, as they were once: a chain must still contain its own
 * @param report is called with the first broken link of each chain
 */
export function createVerifier (key: Buffer, noted: Map<string, Head>, report: (link: BrokenLink) => void) {
  const unseen = new Map(noted)
  let chain: Chain | undefined

  return { add, end }

  function add (part: ChainPart): void {
    const { tenant_id } = 'record' in part ? part.record : part.checkpoint
    if (chain?.tenant_id !== tenant_id) {
      endChain()
      chain = { tenant_id, head: NO_RECORDS, suspects: [], isBroken: false }
    }
    if ('record' in part) addRecord(chain, part.record)
    else addCheckpoint(chain, part.checkpoint)
  }

  /** Ends the last chain, and reports those that are gone. */
  function end (): void {
    endChain()
    for (const tenant_id of unseen.keys()) endChain({ tenant_id, head: NO_RECORDS, suspects: [], isBroken: false })
  }

  function addRecord (chain: Chain, row: AuditRow): void {
    if (chain.suspects.length > 0 || !follows(key, chain.head, row)) {
      if (chain.suspects.length < MAX_SUSPECTS) chain.suspects.push(row)
      return
    }
    moveHead(chain, row)
  }

  /** A cut leaves no record before the checkpoint. */
  function addCheckpoint (chain: Chain, { signature, ...place }: Checkpoint): void {
    const isFirst = chain.head === NO_RECORDS && chain.suspects.length === 0
    if (!isFirst || signature !== signCheckpoint(key, place)) {
      breakChain(chain, { seq: place.seq, kind: 'forged', detail: 'the service did not cut the chain there' })
    }
    moveHead(chain, place)
  }

  function moveHead (chain: Chain, { seq, hmac }: Head): void {
    const { seq: notedSeq, hmac: notedHmac } = unseen.get(chain.tenant_id) ?? NO_RECORDS
    if (seq === notedSeq && hmac !== notedHmac) {
      breakChain(chain, { seq, kind: 'forged', detail: 'it is another one than the noted head' })
    }
    chain.head = { seq, hmac }
  }

  function endChain (ended = chain): void {
    if (ended === undefined) return
    const { head, suspects: [first, ...others], tenant_id: tenantId } = ended
    const notedHead = unseen.get(tenantId) ?? NO_RECORDS
    if (first !== undefined) breakChain(ended, describeBreak(key, head, first, others))
    else if (notedHead.seq > head.seq) {
      const detail = `the chain ends before it; the noted head is ${notedHead.seq}`
      breakChain(ended, { seq: head.seq + 1, kind: 'truncated', detail })
    }
    unseen.delete(tenantId)
  }

  function breakChain (chain: Chain, link: Omit<BrokenLink, 'tenant_id'>): void {
    if (!chain.isBroken) report({ tenant_id: chain.tenant_id, ...link })
    chain.isBroken = true
  }
}

/** Finds out what happened to the record after `head`: `first` and the others stand in its place. */
function describeBreak (
  key: Buffer, head: Head, first: AuditRow, others: AuditRow[]
): Omit<BrokenLink, 'tenant_id'> {
  const seq = head.seq + 1
  const moved = others.find((row) => row.hmac === hmacOf(key, { ...row, seq }, head.hmac))
  if (moved !== undefined) return { seq, kind: 'reordered', detail: `it stands at ${moved.seq} now` }
  if (first.seq !== seq) return { seq, kind: 'missing', detail: `the next one is ${first.seq}` }
  const [second] = others
  const isFollowed = second !== undefined && follows(key, first, second)
  return isFollowed
    ? { seq, kind: 'tampered', detail: 'its content was changed; the next one still follows its HMAC' }
    : { seq, kind: 'forged', detail: 'its HMAC is not of the audit key, or it is the last one and was changed' }
}
