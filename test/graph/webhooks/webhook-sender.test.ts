import { createHmac } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import type { Test } from 'tap'
import t from '../../run/tap.js'
import { startGraph } from '../server.js'
import { listen } from './callback-server.js'

/** A receiver of webhooks that answers with these statuses and then with 200; 0 cuts the connection. */
async function receiver (t: Test, ...statuses: number[]) {
  const got: Array<{ path: string | undefined, headers: IncomingHttpHeaders, body: Buffer }> = []
  const url = await listen(t, async (req, res) => {
    const chunks: Buffer[] = []
    for await (const chunk of req) chunks.push(chunk)
    got.push({ path: req.url, headers: req.headers, body: Buffer.concat(chunks) })
    const status = statuses.shift() ?? 200
    if (status === 0) res.destroy()
    else res.writeHead(status).end('ok')
  })
  return { url, got }
}

const webhook = (field: string, value: object = {}, id = '102') => ({
  object: 'whatsapp_business_account',
  entry: [{ id, changes: [{ field, value }] }]
})

/** The stand-in with one app whose webhooks go to `url`. */
async function started (t: Test, url: string | null) {
  const graph = await startGraph()
  t.teardown(() => graph.close())
  const app = graph.state.addApp({ callback_url: url })
  return { graph, app }
}

await t.test('a webhook is sent in ASCII, and its exact bytes are signed', async t => {
  const { url, got } = await receiver(t)
  const { graph, app } = await started(t, url)
  const body = webhook('messages', { text: 'Grüße 😀 "\u2028\u007f</' })
  t.strictSame(await graph.deliver(app.app_id, body), { url, statuses: [200] })
  const [delivered] = got
  const text = delivered?.body.toString('latin1') ?? ''
  t.match(text, 'Gr\\u00fc\\u00dfe \\ud83d\\ude00 \\"\\u2028')
  t.match(text, /^[\0-\x7f]*$/)
  t.strictSame(JSON.parse(text), body)
  t.match(delivered?.headers, {
    'content-type': 'application/json',
    'x-hub-signature-256': `sha256=${createHmac('sha256', app.app_secret).update(delivered?.body ?? '').digest('hex')}`
  })
})

await t.test('a webhook is retried until it is accepted, for at most seven days, and may be duplicated', async t => {
  const { url, got } = await receiver(t, 500, 0, 302, 204)
  const { graph, app } = await started(t, url)
  t.strictSame(
    await graph.deliver(app.app_id, webhook('account_update'), { duplicates: 2, hour_ms: 1 }),
    { url, statuses: [500, null, 302, 204, 200, 200, 200] }
  )
  t.equal(
    new Set(got.map(({ headers, body }) => `${headers['x-hub-signature-256']} ${body}`)).size,
    1,
    'the same each time'
  )

  const never = await receiver(t, ...Array<number>(20).fill(503))
  const startedAt = performance.now()
  t.strictSame(
    await graph.deliver(app.app_id, {}, { url: never.url, hour_ms: 1, duplicates: 1 }),
    { url: never.url, statuses: Array(10).fill(503) }
  )
  t.ok(performance.now() - startedAt > 150, 'after seven days, each of 24 ms')
})

await t.test('the field of a webhook decides between the override and the URL of the app', async t => {
  const { url, got } = await receiver(t)
  const { graph, app } = await started(t, `${url}/app`)
  const override = (path: string) => ({ override: { url: `${url}${path}`, verify_token: 'v' } })
  graph.state.addWaba({
    id: '102',
    app_ids: [app.app_id],
    phones: [{ id: '1' }, { id: '2', ...override('/phone') }],
    subscriptions: { [app.app_id]: override('/waba') }
  })
  graph.state.addWaba({ id: '103', app_ids: [app.app_id], subscriptions: { [app.app_id]: {} } })
  const from = (id: string) => ({ metadata: { phone_number_id: id } })
  for (const [body, path, options] of [
    [webhook('messages', from('1')), '/waba'],
    [webhook('messages', from('2')), '/phone'],
    [webhook('history'), '/waba'],
    [webhook('messages', from('1'), '103'), '/app'],
    [webhook('messages', from('1'), '104'), '/app'],
    [webhook('account_update', from('2')), '/app'],
    [webhook('message_template_status_update'), '/app'],
    [{}, '/app'],
    [webhook('messages', from('2')), '/here', { url: `${url}/here` }]
  ] as const) {
    t.strictSame(await graph.deliver(app.app_id, body, options), { url: `${url}${path}`, statuses: [200] })
    t.equal(got.at(-1)?.path, path)
  }
  await t.rejects(graph.deliver('1', {}), /there is no app 1/)
})

await t.test('close() does not wait for a delivery', async t => {
  const { url, got } = await receiver(t, 500, 500)
  const { graph, app } = await started(t, url)
  const pending = t.rejects(graph.deliver(app.app_id, {}, { hour_ms: 3_600_000 }))
  while (got.length < 2) await new Promise(resolve => setTimeout(resolve, 5))
  await graph.close()
  await pending
})
