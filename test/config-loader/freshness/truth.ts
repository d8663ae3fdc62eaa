import type { ConfigSnapshot } from '../../../src/app.js'

/** A row of `tenant_configs`, as far as it is told apart here. */
export interface Row { version: number, isActive: boolean, number: string | null, account: string | null }

/**
 * What a write made of a tenant's row, when it was begun and when it was acknowledged: `now()`; never, if its outcome
 * is unknown.
 */
export interface Write { tenant: string, row: Row | null, begun: number, acked: number }

/** What a loader answered to a question, such as `tenant:t1`, that was asked at one time and answered at another. */
export interface Observation { question: string, answer: string, asked: number, answered: number }

interface Period { from: number, until: number }

interface Holding extends Period { tenant: string }

/** Milliseconds; the same in all processes of the machine. */
export const now = () => Number(process.hrtime.bigint()) / 1e6

/** The columns that tell a tenant and a version. */
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

/** The same of a snapshot: what is not wholly one tenant's at one version is the answer of no row. */
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

/** What became of all rows, and when: tells of each answer how old it was. */
export class History {
  readonly #writes = new Map<string, Write[]>()

  add (write: Write): void {
    const writes = this.#writes.get(write.tenant)
    if (writes === undefined) this.#writes.set(write.tenant, [write])
    else writes.push(write)
  }

  get size () { return [...this.#writes.values()].reduce((sum, writes) => sum + writes.length, 0) }

  /**
   * Takes answers that were not marked as stale. Returns how old each was when it was asked for, in milliseconds, and
   * those that were never true.
   */
  judge (observations: Observation[]): { ages: number[], wrong: Observation[] } {
    const claims = new Map<string, Period[]>()
    const held = new Map<string, Holding[]>()
    for (const [tenant, writes] of this.#writes) {
      for (const { answer, ...period } of possible(writes)) {
        listed(
          claims,
          answer === 'nobody' ? tenant : answer
        ).push(period)
      }
      for (const kind of ['number', 'account'] as const) for (const { id, ...period } of certain(writes, kind)) listed(held, `${kind}:${id}`).push(period)
    }
    const ages: number[] = []
    const wrong: Observation[] = []
    for (const observation of observations) {
      const age = ageOf(observation, claims, held)
      if (age === null) wrong.push(observation)
      else ages.push(age)
    }
    return { ages, wrong }
  }
}

function listed<T> (of: Map<string, T[]>, key: string): T[] {
  const list = of.get(key) ?? []
  of.set(key, list)
  return list
}

/**
 * When each state of the row may have been the one to be read: from when it began to be written until the next one was
 * for certain.
 */
function possible (writes: Write[]): Array<Period & { answer: string }> {
  let until = Infinity
  return writes.toReversed().map(({ tenant, row, begun, acked }) => {
    const period = { answer: answerOf(tenant, row), from: begun, until }
    until = Math.min(until, acked)
    return period
  }).reverse()
}

/** When the tenant was for certain the one to be found by an id. */
function certain (writes: Write[], kind: 'number' | 'account'): Array<Holding & { id: string | null }> {
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

/** How old an answer was; null when it was at no time right. */
function ageOf (
  { question, answer, asked, answered }: Observation,
  claims: Map<string, Period[]>,
  held: Map<string, Holding[]>
): number | null {
  const [kind = '', id = ''] = question.split(':')
  const parts = answer === 'nobody' ? [] : answer.split(' + ')
  const stated = kind === 'tenant' && answer === 'nobody' ? [id] : parts
  const ages = stated.map((part) => {
    const [stamp = '', number, account] = part.split(' ')
    const isOnTopic = { tenant: stamp.split('.')[0] === id, number: number === id, account: account === id }[kind]
    const period = claims.get(part)?.findLast(({ from }) => from <= answered)
    return isOnTopic === true && period !== undefined ? asked - period.until : null
  })
  if (ages.includes(null) || (kind !== 'account' && parts.length > 1)) return null
  // Who is not in the answer, though there all the time.
  const named = new Set(parts.map((part) => part.split('.')[0]))
  const left = (held.get(question) ?? []).filter(
    ({ tenant, from, until }) => from <= asked && until >= answered && !named.has(tenant)
  )
  return Math.max(0, ...ages.filter((age) => age !== null), ...left.map(({ from }) => asked - from))
}
