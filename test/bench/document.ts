import { machine } from './machine.js'
import { postgresTable, table } from './report.js'
import type { Result } from './result.js'

/** What is written by hand; all before it is written anew by each run. */
const BY_HAND = '## What was tried'

/** docs/benchmarks.md. Takes PostgreSQL's version, the load average before the run, and the document as it was. */
export function document (results: Result[], postgres: string, busy: number, former: string): string {
  const kept = former.includes(BY_HAND) ? former.slice(former.indexOf(BY_HAND)) : ''
  return `# Benchmarks

\`npm run bench\` wrote this on ${new Date().toISOString().slice(0, 10)}; it takes a few minutes, and runs on a PostgreSQL of its own unless \`TEST_DATABASE_URL\` names one.

${machine(postgres, busy).map((line) => `- ${line}`).join('\n')}

${table(results)}

CPU time of PostgreSQL for each operation in the same runs:

${postgresTable(results)}

## How it is measured

- Times without another word are **CPU time of the Node process**, all its threads, for each operation. Floor and ours take turns: nine rounds, in reverse
  order every other one, after a round that warms up; each figure is the median of its rounds, the ratio that of the medians. PostgreSQL's CPU time is that of all its processes.
- All work is done on one table of 100,000 tenants in a database with the schema and triggers of the service, filled through them. Each tenant has an access token of
  200 characters, an app secret and a verify token, sealed as the service seals them. A trigger more, as in the tests, keeps tokens from being due for a check.
- The floors are in \`test/bench/children/\`. For HTTP: Fastify, @fastify/jwt, one named prepared statement through a \`pg\` pool of ten, compiled schemas for body and answer;
  it masks, opens, seals and logs nothing, leaves times as PostgreSQL writes them, and answers the row as it is stored. For a load: a SELECT of what the loader reads,
  eight in flight, as ours, whose cache is a fourth of what is loaded in a round.
- The service runs as \`npm run build\` left it, \`NODE_ENV=production\`, \`LOG_LEVEL=warn\`, all else as it comes. autocannon sends each request for another tenant with that
  tenant's own token, over ten connections.
- \`Map.get\` holds the very snapshots that the loader serves; both are asked with the same strings they were filled with, one awaited call after the other.
- A write is acknowledged when the client has its answer; a process that polls the other instance's loader, or what a bare listening connection was told, says when it saw it.
  500 writes each, in turns. A write seen before its acknowledgement counts as seen at once.
- Memory is \`heapUsed\` and \`external\` after a collection, with 100,000 tenants cached, less that of the same process with 1,000.
- The million tenants have placeholders of the right length for secrets; requests go one after the other.
${kept === '' ? '' : `\n${kept}`}`
}
