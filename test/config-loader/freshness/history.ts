import type { ConfigSnapshot } from '../../../src/app.js'

/** The columns of `tenant_configs` that these tests compare. */
export interface Row { version: number, isActive: boolean, number: string | null, account: string | null }

/**
 * A written row, with the start and the acknowledgement of its write by `now()`. `acked` is `Infinity` if the outcome
 * is unknown.
 */
export interface Write { tenant: string, row: Row | null, begun: number, acked: number }

/** The answer of a loader to a question such as `tenant:t1`, with the times of both. */
export interface Observation { question: string, answer: string, asked: number, answered: number }

interface Period { from: number, until: number }

interface Holding extends Period { tenant: string }

/** Milliseconds; the same in all processes of the machine. */
export const now = () => Number(process.hrtime.bigint()) / 1e6

/** Column values that identify the tenant and the version. */
export function columnsOf (tenant: string, { version, number, account }: Row) {
  const stamp = `${tenant}.${version}`
  return {
    phone_number_id: number,
    waba_id: account,
    access_token: stamp,
    fb_app_id: stamp,
    fb_app_secret: stamp,
    verify_token: stamp,
    callback_url: `https://a.example/${stamp}`,
    redirect_url: `https://b.example/${stamp}`
  }
}

const answerOf = (tenant: string, row: Row | null) =>
  row?.isActive === true ? `${tenant}.${row.version} ${row.number} ${row.account}` : 'nobody'

/** The answer of a snapshot; one that mixes tenants or versions equals no row. */
export function answerOfSnapshot (snapshot: ConfigSnapshot | null): string {
  if (snapshot === null) return 'nobody'
  const values = snapshot.getAllConfig()
  if (!snapshot.hasTenantConfig()) return 'nobody'
  const { access_token: stamp, phone_id, waba_id } = values
  const stamps = [
    values.fb_app_id,
    values.fb_app_secret,
    values.verify_token,
    values.callback_url?.slice('https://a.example/'.length),
    values.redirect_url?.slice('https://b.example/'.length)
  ]
  const isWhole = stamps.every((each) => each === stamp) && stamp?.split('.')[0] === snapshot.getTenantId()
  return isWhole ? `${stamp} ${phone_id} ${waba_id}` : `torn ${snapshot.getTenantId()} ${JSON.stringify(values)}`
}

/** The history of all rows; it determines the age of an answer. */
export class History {
  readonly #writes = new Map<string, Write[]>()

  add (write: Write): void {
    const writes = this.#writes.get(write.tenant)
    if (writes === undefined) this.#writes.set(write.tenant, [write])
    else writes.push(write)
  }

  get size () { return [...this.#writes.values()].reduce((sum, writes) => sum + writes.length, 0) }

  /**
   * Takes answers that are not marked as stale. Returns their ages in ms when they were requested, and the answers that
   * were never true.
   */
  evaluate (observations: Observation[]): { ages: number[], wrong: Observation[] } {
    const states = new Map<string, Period[]>()
    const holdings = new Map<string, Holding[]>()
    for (const [tenant, writes] of this.#writes) {
      for (const { answer, ...period } of possiblePeriods(writes)) {
        listOf(states, answer === 'nobody' ? tenant : answer).push(period)
      }
      for (const kind of ['number', 'account'] as const) {
        for (const { id, ...period } of certainPeriods(writes, kind)) listOf(holdings, `${kind}:${id}`).push(period)
      }
    }
    const ages: number[] = []
    const wrong: Observation[] = []
    for (const observation of observations) {
      const age = ageOf(observation, states, holdings)
      if (age === null) wrong.push(observation)
      else ages.push(age)
    }
    return { ages, wrong }
  }
}

function listOf<T> (lists: Map<string, T[]>, key: string): T[] {
  const list = lists.get(key) ?? []
  lists.set(key, list)
  return list
}

/** When each state could be read: from the start of its write until a later write was acknowledged. */
function possiblePeriods (writes: Write[]): Array<Period & { answer: string }> {
  let until = Infinity
  return writes.toReversed().map(({ tenant, row, begun, acked }) => {
    const period = { answer: answerOf(tenant, row), from: begun, until }
    until = Math.min(until, acked)
    return period
  }).reverse()
}

/** The periods in which a lookup by an id must find the tenant. */
function certainPeriods (writes: Write[], kind: 'number' | 'account'): Array<Holding & { id: string | null }> {
  const periods: Array<Holding & { id: string | null }> = []
  for (const { tenant, row, begun, acked } of writes) {
    const id = row?.isActive === true ? row[kind] : null
    const last = periods.at(-1)
    if (last?.id === id) continue
    if (last !== undefined) last.until = begun
    periods.push({ tenant, id, from: acked, until: Infinity })
  }
  return periods
}

/** The age of an answer in ms; null if it was never true. */
function ageOf (
  { question, answer, asked, answered }: Observation,
  states: Map<string, Period[]>,
  holdings: Map<string, Holding[]>
): number | null {
  const [kind = '', id = ''] = question.split(':')
  const parts = answer === 'nobody' ? [] : answer.split(' + ')
  const claims = kind === 'tenant' && answer === 'nobody' ? [id] : parts
  const ages = claims.map((part) => {
    const [stamp = '', number, account] = part.split(' ')
    const isOnTopic = { tenant: stamp.split('.')[0] === id, number: number === id, account: account === id }[kind]
    const period = states.get(part)?.findLast(({ from }) => from <= answered)
    return isOnTopic === true && period !== undefined ? asked - period.until : null
  })
  if (ages.includes(null) || (kind !== 'account' && parts.length > 1)) return null
  // Tenants that are missing from the answer, though stored during the whole call.
  const named = new Set(parts.map((part) => part.split('.')[0]))
  const missing = (holdings.get(question) ?? []).filter(
    ({ tenant, from, until }) => from <= asked && until >= answered && !named.has(tenant)
  )
  return Math.max(0, ...ages.filter((age) => age !== null), ...missing.map(({ from }) => asked - from))
}
