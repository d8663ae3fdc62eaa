/** What one operation cost, in microseconds of CPU: of the Node process, and of PostgreSQL (NaN when that cannot be known). */
export interface Cost { node: number, postgres: number }

const ROUNDS = 9

/**
 * Has the contestants take turns, in reverse order every other round, and returns the median of each one's nine rounds.
 * A round before those warms up and is not counted.
 */
export async function interleaved<Name extends string> (contestants: Record<Name, (round: number) => Promise<Cost>>): Promise<Record<Name, Cost>> {
  const turns = Object.entries<(round: number) => Promise<Cost>>(contestants).map(([name, turn]) => ({ name, turn, costs: Array<Cost>() }))
  for (let round = 0; round <= ROUNDS; round++) {
    process.stderr.write('.')
    for (const { turn, costs } of turns) {
      const cost = await turn(round)
      if (round > 0) costs.push(cost)
    }
    turns.reverse()
  }
  return Object.fromEntries(turns.map(({ name, costs }) => [name, {
    node: quantile(costs.map(({ node }) => node), 0.5),
    postgres: quantile(costs.map(({ postgres }) => postgres), 0.5)
  }]))
}

/** The smallest of the values that at least this share of them does not exceed. */
export function quantile (values: number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.ceil(values.length * share) - 1] ?? NaN
}
