import { createHmac } from 'node:crypto'
import t from '../run/tap.js'
import { createMeta } from '../../src/cli/demo/meta.js'
import { startReceiver } from '../../src/cli/demo/receiver.js'
import { startGraph } from '../graph/server.js'

await t.test('the receiver checks the verify token and the signature', async (t) => {
  const receiver = await startReceiver({ verifyToken: 'right', eventsSecret: 'secret' })
  t.teardown(receiver.close)
  const challenged = async (token: string) =>
    await (await fetch(`${receiver.url}/?hub.challenge=42&hub.verify_token=${token}`)).text()
  t.equal(await challenged('right'), '42')
  t.not(await challenged('wrong'), '42')
  for (const secret of ['secret', 'another']) {
    const body = JSON.stringify({ type: secret })
    await fetch(receiver.url, {
      method: 'POST',
      body,
      headers: { 'x-signature-256': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}` }
    })
  }
  t.same(
    await receiver.waitForEvents(['secret', 'another']),
    { events: [{ type: 'secret', is_signed: true }, { type: 'another', is_signed: false }] }
  )
})

await t.test('a refusal of the stand-in is reported', async (t) => {
  const graph = await startGraph()
  t.teardown(graph.close)
  await t.rejects(
    createMeta(graph.url).enterWebhook({ app_id: 1 }, 'https://a.example/'),
    /The stand-in refuses seed: /
  )
  t.same(await createMeta(graph.url).listSubscriptions('unknown'), { subscriptions: [] })
})
