import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import t from './run/tap.js'
import { describeForTerminal } from '../src/logger.js'

const beneath = new Error('beneath')

for (const [err, expected] of [
  [beneath, 'beneath'],
  [new Error('Failed query: select …', { cause: new Error('', { cause: beneath }) }), 'beneath'],
  [new AggregateError([beneath, new Error('second')]), 'beneath'],
  ['not an error', 'not an error'],
  [undefined, 'undefined']
] as const) t.equal(describeForTerminal(err), expected)

await t.test('the message for a port in use contains advice', async (t) => {
  const first = createServer().listen({ host: '127.0.0.1', port: 0 })
  await once(first, 'listening')
  const second = createServer().listen({ host: '127.0.0.1', ...first.address() as AddressInfo })
  const [err] = await once(second, 'error')
  t.match(describeForTerminal(err), /address already in use 127.*\. Stop .* or set PORT/)
  first.close()
})
