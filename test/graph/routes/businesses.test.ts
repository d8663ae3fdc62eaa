import t from '../../run/tap.js'
import { startWithClient } from '../http/client.js'

const { state, call } = await startWithClient(t)
const app = state.addApp()
const MANAGES = ['business_management', 'whatsapp_business_management']
const businesses = ['701', '702', '703']
const bearer = state.issueToken({ app_id: app.app_id, scopes: MANAGES, business_ids: businesses })
state.addBusiness({ id: '701', owned_waba_ids: ['11', '12', '13'], client_waba_ids: ['14'] })
state.addBusiness({ id: '702' })
state.addBusiness({ id: '704', owned_waba_ids: ['15'] })

const ids = (body: { data: Array<{ id: string }> }) => body.data.map(({ id }) => id)
const owned = (id: string, params = {}, token = bearer) =>
  call(`/v26.0/${id}/owned_whatsapp_business_accounts`, params, { bearer: token })

await t.test('the businesses of a token, and their accounts, are listed page by page', async t => {
  t.strictSame((await call('/v26.0/me/businesses', {}, { bearer })).body.data, businesses.map(id => ({ id })))
  t.strictSame(ids((await owned('701')).body), ['11', '12', '13'])
  t.strictSame(ids((await call('/v26.0/701/client_whatsapp_business_accounts', {}, { bearer })).body), ['14'])
  t.strictSame((await owned('702')).body, { data: [] })

  const first = (await owned('701', { limit: '2' })).body
  t.strictSame(ids(first), ['11', '12'])
  t.match(first.paging.next, 'owned_whatsapp_business_accounts')
  const last = (await owned('701', { limit: '2', after: first.paging.cursors.after })).body
  t.strictSame([ids(last), last.paging.next], [['13'], undefined])

  state.addBusiness({ id: '702', owned_waba_ids: ['16'] })
  t.strictSame(ids((await owned('702')).body), ['16'], 'a known id is replaced')
})

await t.test('a token without the permission, or of another business, is refused', async t => {
  const plain = state.issueToken({ app_id: app.app_id, business_ids: businesses })
  for (const path of ['me/businesses', '701/owned_whatsapp_business_accounts']) {
    t.match(await call(`/v26.0/${path}`, {}, { bearer: plain }), { status: 403, body: { error: { code: 200 } } })
    t.match(await call(`/v26.0/${path}`, {}, { bearer: 'x' }), { status: 401, body: { error: { code: 190 } } })
  }
  for (const id of ['703', '704']) t.match(await owned(id), { status: 400, body: { error: { code: 100 } } }, id)
  const none = state.issueToken({ app_id: app.app_id, scopes: MANAGES })
  t.strictSame((await call('/v26.0/me/businesses', {}, { bearer: none })).body, { data: [] })
})
