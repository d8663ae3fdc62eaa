/**
 * The cost of one operation, in microseconds of CPU: of the Node process, and of PostgreSQL (NaN if unknown).
 */
export interface Cost { node: number, postgres: number }

/** The operation of the floor, and ours; both receive the number of the round. */
export interface Contest { floor: (round: number) => Promise<Cost>, ours: (round: number) => Promise<Cost> }

const ROUNDS = 9

/**
 * Alternates floor and ours, in reverse order every other round, and returns the median of nine rounds for each.
 * Round 0 before those is a warm-up and is not counted.
 */
export async function interleaved ({ floor, ours }: Contest): Promise<Record<keyof Contest, Cost>> {
  const sides = [{ operation: floor, costs: Array<Cost>() }, { operation: ours, costs: Array<Cost>() }] as const
  for (let round = 0; round <= ROUNDS; round++) {
    process.stderr.write('.')
    for (const { operation, costs } of round % 2 === 0 ? sides : sides.toReversed()) {
      const cost = await operation(round)
      if (round > 0) costs.push(cost)
    }
  }
  return { floor: median(sides[0].costs), ours: median(sides[1].costs) }
}

const median = (costs: Cost[]): Cost => ({
  node: quantile(costs.map(({ node }) => node), 0.5),
  postgres: quantile(costs.map(({ postgres }) => postgres), 0.5)
})

/** The smallest of the values that at least `fraction` of them do not exceed. */
export function quantile (values: number[], fraction: number): number {
  return values.toSorted((a, b) => a - b)[Math.ceil(values.length * fraction) - 1] ?? NaN
}
