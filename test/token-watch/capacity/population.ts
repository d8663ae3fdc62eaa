export const DAY = 24 * 60 * 60 * 1000
export const HOUR = 60 * 60 * 1000
const MINUTE = 60 * 1000

/** A token; times in Unix milliseconds, Infinity for never. */
export interface SimulatedToken {
  expires: number
  dataAccessEnds: number
  /** Whether Meta extends it. */
  isExtendable: boolean
}

/** The number of tokens that end at the same moment. */
const BURST = 6000
const BURSTS = 5

/** Returns a generator of numbers from 0 to 1, the same ones at each run. */
export function seededRandom (): () => number {
  let seed = 20261129
  return () => {
    // mulberry32
    seed = (seed + 0x6D2B79F5) | 0
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Returns the token with an index, of those that are stored at the start. */
export function storedToken (index: number, start: number, random: () => number): SimulatedToken {
  const within = (from: number, to: number) => Math.round(start + from + random() * (to - from))
  const token = { expires: Infinity, dataAccessEnds: Infinity, isExtendable: false }
  if (index < BURST * BURSTS) {
    const burst = Math.floor(index / BURST)
    return { ...token, expires: start + (3 + burst * 6) * DAY + burst * 5 * HOUR }
  }
  const kind = index % 20
  if (kind < 8) return token
  if (kind < 13) return { ...token, expires: within(0, 90 * DAY) }
  if (kind < 15) return { ...token, dataAccessEnds: within(HOUR, 90 * DAY) }
  if (kind < 17) return { ...token, expires: within(15 * DAY, 60 * DAY), isExtendable: true }
  if (kind < 19) return { ...token, expires: within(10 * DAY, 90 * DAY), dataAccessEnds: within(5 * DAY, 90 * DAY) }
  return index % 200 === 19 ? { ...token, expires: within(5 * MINUTE, 72 * HOUR) } : token
}

/** Returns the token with an index, of those that are imported at a moment: few of them end soon. */
export function importedToken (index: number, moment: number, random: () => number): SimulatedToken {
  const within = (from: number, to: number) => Math.round(moment + from + random() * (to - from))
  const token = { expires: Infinity, dataAccessEnds: Infinity, isExtendable: false }
  if (index % 100 === 0) return { ...token, expires: within(HOUR, 14 * DAY) }
  if (index % 100 === 1) return { ...token, dataAccessEnds: within(10 * MINUTE, 14 * DAY) }
  return index % 2 === 0 ? token : { ...token, expires: within(15 * DAY, 60 * DAY) }
}
