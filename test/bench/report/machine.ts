import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os'

const PACKAGES = ['fastify', '@fastify/jwt', 'pg', 'drizzle-orm', 'lru-cache', 'autocannon']
const GIB = 1024 ** 3
const BUSY = '**The machine had other work to do.** So all times are too long, and the ratios too small: ' +
  'interruptions cost both sides the same.'

/** The hardware and the versions, one line each. `loadBefore` is the load average before the run. */
export function machine (postgres: string, loadBefore: number): string[] {
  return [
    `${cpus()[0]?.model ?? 'unknown CPU'}, ${availableParallelism()} cores, ${Math.round(totalmem() / GIB)} GiB, ` +
      `${type()} ${release()}; load average before: ${loadBefore.toFixed(1)}`,
    ...loadBefore < 1 ? [] : [BUSY],
    [
      `Node ${process.versions.node}`,
      `PostgreSQL ${postgres}`,
      ...PACKAGES.map((name) => `${name} ${versionOf(name)}`)
    ].join(', ')
  ]
}

/** The load average of the last minute. */
export const loadAverage = () => loadavg()[0] ?? 0

function versionOf (name: string): string {
  const { version }: { version: string } = JSON.parse(
    readFileSync(new URL(`../../../node_modules/${name}/package.json`, import.meta.url), 'utf8')
  )
  return version
}
