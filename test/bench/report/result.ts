import type { Cost } from '../measure/rounds.js'

/** A line of the report. */
export interface Result {
  figure: string
  ours: string
  /** The time of the floor. */
  floor?: string
  /** Our time divided by that of the floor. */
  ratio?: number
  goal?: string
  met?: boolean
  /** CPU time of PostgreSQL, in microseconds. */
  postgres?: { ours: number, floor: number }
}

/** The line of a figure whose goal is a multiple of its floor; without `limit` it has no goal. */
export function compared (figure: string, { ours, floor }: Record<'ours' | 'floor', Cost>, limit?: number): Result {
  const ratio = ours.node / floor.node
  return {
    figure,
    ours: microseconds(ours.node),
    floor: microseconds(floor.node),
    ratio,
    ...(limit === undefined ? {} : { goal: `≤ ${limit.toFixed(2)} × the floor`, met: ratio <= limit }),
    postgres: { ours: ours.postgres, floor: floor.postgres }
  }
}

/** More than three digits are not reproducible. */
const rounded = (value: number) => value.toLocaleString('en', { maximumSignificantDigits: 3 })

export const microseconds = (value: number) => `${rounded(value)} µs`
export const milliseconds = (value: number) => `${rounded(value / 1000)} ms`
