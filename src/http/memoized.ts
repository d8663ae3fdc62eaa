/**
 * Returns a function that compiles equal schemas once: Fastify compiles those of a GET route again for its HEAD route,
 * and several routes have the same answer.
 */
export function memoized<Compiled> (compile: (schema: object) => Compiled): (schema: object) => Compiled {
  const known = new Map<string, Compiled>()
  return (schema) => {
    const key = JSON.stringify(schema)
    const compiled = known.get(key) ?? compile(schema)
    known.set(key, compiled)
    return compiled
  }
}
