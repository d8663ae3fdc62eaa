import { createInterface } from 'node:readline'
import { createHttpClient } from '../../src/meta/http-client.js'
import { createOutbound } from '../../src/outbound/outbound.js'

// A process of its own, because Node reads NODE_EXTRA_CA_CERTS once. Each line of stdin is a path to post to; prints
// the outcome as JSON.
const [proxy, noProxy] = process.argv.slice(2)
const { fetch, close } = await createOutbound({ proxy, noProxy })
const send = createHttpClient({ baseUrl: 'https://graph.example', version: 'v26.0', fetch })
for await (const path of createInterface({ input: process.stdin })) {
  const outcome = await send({ method: 'POST', path, form: { a: 'é' } }, undefined, AbortSignal.timeout(30_000))
  console.log(JSON.stringify('wasSent' in outcome ? outcome : { status: outcome.status, body: outcome.body }))
}
await close()
