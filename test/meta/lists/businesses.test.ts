import t from '../../run/tap.js'
import { faults } from '../../graph/faults.js'
import { app, proof, standIn } from '../wire.js'

const MANAGES = ['business_management', 'whatsapp_business_management']
const soon = () => AbortSignal.timeout(10_000)

await t.test('the accounts of all businesses are found, each once', async t => {
  const { meta, graph, lines } = await standIn(t)
  const owned = Array.from({ length: 150 }, (_, i) => String(1000 + i))
  meta.state.addBusiness({ id: '701', owned_waba_ids: owned, client_waba_ids: ['2000'] })
  meta.state.addBusiness({ id: '702', client_waba_ids: ['2000', '2001'] })
  const token = meta.state.issueToken({ app_id: app.id, scopes: MANAGES, business_ids: ['701', '702'] })
  t.strictSame((await graph.inspectToken(app, token)).waba_ids, [], 'the token names none')
  t.strictSame(await graph.listBusinessAccounts(app, token, soon()), [...owned, '2000', '2001'])
  t.strictSame(meta.requests.map(({ path }) => path.split('/').slice(2).join('/')), [
    'debug_token', 'me/businesses', ...Array(2).fill('701/owned_whatsapp_business_accounts'),
    '701/client_whatsapp_business_accounts', '702/owned_whatsapp_business_accounts',
    '702/client_whatsapp_business_accounts'
  ])
  for (const { headers, query } of meta.requests.slice(1)) {
    t.match(headers, { authorization: `Bearer ${token}` })
    t.match(query, { appsecret_proof: proof(token) })
  }
  t.same(lines, [])
})

await t.test('the search ends after 20 businesses, at a refusal and with its time', async t => {
  const { meta, graph } = await standIn(t)
  const businesses = Array.from({ length: 25 }, (_, i) => String(700 + i))
  for (const id of businesses) meta.state.addBusiness({ id, owned_waba_ids: [`9${id}`] })
  const issue = (grant: object) => meta.state.issueToken({ app_id: app.id, scopes: MANAGES, ...grant })
  const token = issue({ business_ids: businesses })
  t.equal((await graph.listBusinessAccounts(app, token, soon())).length, 20)
  t.equal(meta.requests.length, 41)

  t.strictSame(await graph.listBusinessAccounts(app, issue({}), soon()), [], 'without a business there is none')
  const plain = issue({ scopes: ['whatsapp_business_management'] })
  await t.rejects(graph.listBusinessAccounts(app, plain, soon()), { code: 'META_PERMISSION_MISSING' })
  for (const [fault, code] of [
    [faults.badGateway, 'META_UNAVAILABLE'], [{ patch: { data: [{ id: '..' }] } }, 'META_WABA_NOT_ACCESSIBLE'],
    [{ patch: { data: [{ id: {} }] } }, 'META_UNEXPECTED_REPLY'], [faults.bareError, 'META_UNEXPECTED_REPLY']
  ] as const) {
    meta.fail('businesses', fault)
    await t.rejects(graph.listBusinessAccounts(app, token, soon()), { code })
  }
  meta.fail('business_accounts', { latency_ms: 60_000 })
  await t.rejects(graph.listBusinessAccounts(app, token, AbortSignal.timeout(50)), { code: 'META_TIMEOUT' })
})
