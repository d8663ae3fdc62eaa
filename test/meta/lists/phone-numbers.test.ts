import t from '../../run/tap.js'
import { faults } from '../../graph/faults.js'
import { app, json, meta, proof, standIn, token } from '../wire.js'

await t.test('listPhoneNumbers reads all pages, each with its appsecret_proof', async t => {
  const { meta, waba, graph, lines } = await standIn(t)
  const token = meta.state.issueToken({ app_id: app.id })
  meta.fail('phone_numbers', faults.extraFields)
  const phones = await graph.listPhoneNumbers(app, token, waba.id)
  t.strictSame(phones, waba.phones.map(({ id, display_phone_number, verified_name }) => ({
    id,
    display_phone_number,
    verified_name,
    is_on_biz_app: null,
    platform_type: 'CLOUD_API',
    quality_rating: 'GREEN',
    status: 'PENDING'
  })))
  t.equal(phones.length, 250)
  t.equal(meta.requests.length, 3)
  for (const { method, query, headers } of meta.requests) {
    t.match({ method, query, headers }, {
      method: 'GET',
      query: { limit: '100', appsecret_proof: proof(token), access_token: undefined },
      headers: { authorization: `Bearer ${token}` }
    })
  }
  t.same(lines, [])
})

await t.test('null for an optional value of a page counts as absent', async t => {
  const { meta, waba, graph } = await standIn(t)
  const token = meta.state.issueToken({ app_id: app.id })
  // The first page has 100 of the 250 numbers: without a link to the next page the list ends there.
  for (const patch of [
    { paging: null },
    { paging: { next: null } },
    { paging: { cursors: null, next: null } },
    { paging: { cursors: { after: null }, next: null } }
  ]) {
    meta.fail('phone_numbers', { patch })
    t.equal((await graph.listPhoneNumbers(app, token, waba.id)).length, 100)
  }
  for (const patch of [
    { data: null }, { data: [null] }, { paging: { cursors: null } }, { paging: { cursors: { after: null } } }
  ]) {
    meta.fail('phone_numbers', { patch })
    await t.rejects(graph.listPhoneNumbers(app, token, waba.id), { code: 'META_UNEXPECTED_REPLY' })
  }
  const none = {
    display_phone_number: null,
    verified_name: null,
    is_on_biz_app: null,
    platform_type: null,
    quality_rating: null,
    status: null
  }
  meta.fail('phone_numbers', { patch: { data: [{ id: '1' }, { id: '2', ...none, new: 1 }], paging: { next: null } } })
  t.strictSame(await graph.listPhoneNumbers(app, token, waba.id), ['1', '2'].map(id => ({ id, ...none })))
})

await t.test('endless paging ends with an error after 50 pages or the time of one call', async t => {
  let page = 0
  const another = (after: string) => json(200, {
    data: [{ id: '1' }],
    paging: { cursors: { after }, next: 'http://127.0.0.1:1/' }
  })
  const endless = await meta(t, (res) => { another(String(page++))(res) })
  await t.rejects(endless.graph.listPhoneNumbers(app, token, '1'), { code: 'META_UNEXPECTED_REPLY' })
  t.equal(endless.urls.length, 50)

  const repeating = await meta(t, another('x'))
  await t.rejects(repeating.graph.listPhoneNumbers(app, token, '1'), { code: 'META_UNEXPECTED_REPLY' })
  t.equal(repeating.urls.length, 2, 'a page that leads to itself')

  const slow = await meta(t, (res) => { setTimeout(() => { another(String(page++))(res) }, 300) })
  await t.rejects(slow.graph.listPhoneNumbers(app, token, '1'), { code: 'META_TIMEOUT' })
  t.ok(slow.urls.length <= 7, 'all pages together have the time of one call')

  const limited = await meta(t, () => {})
  const limit = new AbortController()
  const listed = limited.graph.listPhoneNumbers(app, token, '1', limit.signal)
  limit.abort('for any reason')
  await t.rejects(listed, { code: 'META_TIMEOUT' }, 'the limit of several calls')
})
