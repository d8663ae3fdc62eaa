import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { readOptions, runCli } from '../../src/cli/command.js'
import { describeForTerminal } from '../../src/logger.js'
import { addSeed, firstAppId, issueCode } from './seed.js'
import { startGraph, type Graph } from './server.js'

const USAGE = `Serves a stand-in of Meta's Graph API on this machine; see test/graph/README.md.
  npm run graph -- [--seed <file.json>] [--port <number>]
The seed is test/graph/seed.json unless another is named ("-": standard input), the port is 8003 (0: any free one).`

await runCli(async (stopAtEnd) => {
  const { seed = fileURLToPath(new URL('seed.json', import.meta.url)), port = '8003' } = readOptions({
    seed: { type: 'string' },
    port: { type: 'string' }
  }, USAGE)
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65535) throw new Error(USAGE)
  const graph = await stopAtEnd(startGraph({ port: Number(port) }), async (graph) => await graph.close())
  await read(graph, seed)
  const code = issueCode(graph.state, {})
  // A parent process with an IPC channel gets the URL; the stand-in ends with the channel.
  if (process.send) process.send({ url: graph.url, code })
  else console.log(startMessage(graph, code))
  await once(process, 'disconnect')
})

async function read ({ state }: Graph, seed: string): Promise<void> {
  try {
    addSeed(state, JSON.parse(seed === '-' ? await text(process.stdin) : await readFile(seed, 'utf8')))
  } catch (err) {
    throw new Error(`The seed ${seed} does not do. ${describeForTerminal(err)}`)
  }
}

function startMessage ({ url, state }: Graph, code: string): string {
  const app = state.app(firstAppId(state))
  const wabas = [...state.wabas.values()].map(
    ({ id, phones }) => `  waba_id ${id}, phone_number_id ${phones.map(({ id }) => id).join(' or ')}`
  )
  return `The stand-in of Meta's Graph API serves ${url}

For .env:
GRAPH_API_BASE_URL=${url}
FB_APP_ID=${app.app_id}
FB_APP_SECRET=${app.app_secret}

The values of a login:
${wabas.join('\n')}
  code ${code}
It works once, for 30 s. The next one: curl -X POST ${url}/_control/codes`
}
