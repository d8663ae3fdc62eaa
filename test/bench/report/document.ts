import { machine } from './machine.js'
import type { Result } from './result.js'
import { postgresTable, table } from './tables.js'

/** The heading of the manual part; each run generates everything before it. */
const BY_HAND = '## What was tried'

/** docs/benchmarks.md: `loadBefore` is the load average before the run, `former` the document before it. */
export function document (results: Result[], postgres: string, loadBefore: number, former: string): string {
  const kept = former.includes(BY_HAND) ? former.slice(former.indexOf(BY_HAND)) : ''
  return `# Benchmarks

\`npm run bench\` wrote this on ${new Date().toISOString().slice(0, 10)}. It takes about 13 minutes, and uses a \
PostgreSQL of its own unless \`TEST_DATABASE_URL\` names one.

${machine(postgres, loadBefore).map((line) => `- ${line}`).join('\n')}

${table(results)}

CPU time of PostgreSQL for each operation in the same runs:

${postgresTable(results)}

## How it is measured

- Times are **CPU time of the Node process** per operation, of all its threads, unless stated otherwise. Floor and \
ours alternate in nine rounds, every other one in
  reverse order, after a warm-up round. Each figure is the median of its rounds; the ratio is that of the medians. \
PostgreSQL's CPU time is that of all its processes.
- All operations use one table of 100,000 tenants, in a database with the schema and triggers of the service, filled \
with the triggers on. Each tenant has an access token
  of 200 characters, an app secret and a verify token, sealed as the service seals them. An additional trigger, as in \
the tests, keeps tokens from becoming due for a check.
- The floors are in \`test/bench/children/\`. For HTTP: Fastify, @fastify/jwt, one named prepared statement through a \
\`pg\` pool of ten, compiled schemas for body and answer.
  It masks, opens, seals and logs nothing, leaves times as PostgreSQL writes them, and returns the row as it is \
stored. For a load: a SELECT of the columns that the loader
  reads, eight in flight, as in ours. Our cache holds a fourth of the tenants that are loaded in a round.
- The service runs from \`npm run build\`, with \`NODE_ENV=production\`, \`LOG_LEVEL=warn\` and otherwise default \
settings. autocannon sends each request for another tenant
  with that tenant's own token, over ten connections.
- The \`Map\` of \`Map.get\` holds the same snapshots that the loader serves. Both are called with the strings they \
were filled with, one awaited call after the other.
- A write is acknowledged when the client has its answer. It is seen when a process that polls the other instance's \
loader finds it; for the floor, when a bare listening
  connection gets the notification. 500 writes each, alternating. A write seen before its acknowledgement counts as \
seen at once.
- Memory is \`heapUsed\` and \`external\` after a garbage collection, with 100,000 tenants cached, minus that of the \
same process with 1,000.
- The clients of the flood, and the stand-in of Meta that they reach, run at the lowest priority: elsewhere they have \
machines of their own.
- The million tenants have placeholders of the right length for secrets. Requests are sequential.
${kept === '' ? '' : `\n${kept}`}`
}
