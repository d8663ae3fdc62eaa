import t from '../../../run/tap.js'
import { startWithClient } from '../../http/client.js'

const { graph, state, call } = await startWithClient(t)

const app = state.addApp()
const waba = state.addWaba({ app_ids: [app.app_id], phones: [{ id: '4712', registered: true }, { id: '4713' }] })
const bearer = state.issueToken({ app_id: app.app_id })
const message = { messaging_product: 'whatsapp', to: '+1 650-555-1234', type: 'text', text: { body: 'Hello' } }
const send = (json: object, token = bearer, phone = '4712') => call(
  `/v26.0/${phone}/messages`,
  {},
  { bearer: token, json }
)
const refusal = (code: number, message: string, status = 400) => ({ status, body: { error: { code, message } } })

await t.test('a message is accepted, and its sender is recorded', async t => {
  const { status, body } = await send(message)
  t.equal(status, 200)
  t.match(body.messages[0].id, /^wamid\.HBgL[A-Za-z0-9]{40}$/)
  t.strictSame({ ...body, messages: [] }, {
    messaging_product: 'whatsapp',
    contacts: [{ input: '+1 650-555-1234', wa_id: '16505551234' }],
    messages: []
  })
  t.match(graph.requests.at(-1), {
    route: 'messages',
    path: '/v26.0/4712/messages',
    headers: {
      authorization: `Bearer ${bearer}`
    },
    form: { to: message.to, text: '{"body":"Hello"}' }
  })
  t.not((await send(message)).body.messages[0].id, body.messages[0].id, 'each has an id of its own')
  t.equal((await send({ ...message, type: undefined })).status, 200, 'text is the default type')
  t.equal((await send({ ...message, type: 'image', text: undefined, image: { id: '1' } })).status, 200)
})

await t.test('a message without a required parameter is refused', async t => {
  for (const [name, change] of [
    ['messaging_product', { messaging_product: 'sms' }], ['to', { to: undefined }], ['to', { to: '' }],
    ["text['body']", { text: undefined }], ["text['body']", { text: { body: '' } }], ["text['body']", { text: 'Hello' }]
  ] as const) {
    t.match(
      await send({ ...message, ...change }),
      refusal(100, `(#100) The parameter ${name} is required.`),
      JSON.stringify(change)
    )
  }
})

await t.test('a token that may not send from the number is refused', async t => {
  const issue = (grant: object) => state.issueToken({ app_id: app.app_id, ...grant })
  t.match(await send(message, 'garbage'), refusal(190, 'Invalid OAuth access token', 401))
  t.match(await send(message, issue({ expires_in: -1 })), refusal(190, 'Session has expired', 401))
  const gone = refusal(100, "Unsupported post request. Object with ID '4712' does not exist")
  t.match(await send(message, issue({ waba_ids: ['1'] })), gone, 'of another account')
  t.match(await send(message, state.issueToken({ app_id: state.addApp().app_id })), gone, 'of another app')
  t.match(await send(message, bearer, '4714'), { status: 400, body: { error: { code: 100, error_subcode: 33 } } })

  t.match(
    await send(message, issue({ scopes: ['whatsapp_business_management'] })),
    refusal(200, '(#200) You do not have the necessary permissions to send messages', 403)
  )
  t.equal((await send(message, issue({ scopes: ['whatsapp_business_messaging'], waba_ids: [waba.id] }))).status, 200)
  t.match(await send(message, bearer, '4713'), refusal(133010, '(#133010) Account not registered'))
})
