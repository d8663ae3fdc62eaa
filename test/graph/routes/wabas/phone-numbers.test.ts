import t from '../../../run/tap.js'
import { startWithClient } from '../../http/client.js'

const { state, call } = await startWithClient(t)
const app = state.addApp()
const other = state.addApp()
const phones = ['p5', 'p4', 'p3', 'p2', 'p1'].map(id => ({ id, registered: true }))
const waba = state.addWaba({ app_ids: [app.app_id], phones })
const foreignWaba = state.addWaba({ app_ids: [other.app_id] })

const list = (token: string, params: Record<string, string> = {}, id = waba.id) =>
  call(`/v26.0/${id}/phone_numbers`, params, { bearer: token })

await t.test('phone_numbers: paging returns every number once', async t => {
  const token = state.issueToken({ app_id: app.app_id, waba_ids: [waba.id] })
  for (const limit of ['1', '2', '4']) {
    const seen: string[] = []
    let next: string | undefined
    let after: string | undefined
    do {
      const { status, body } = await list(token, { limit, ...(after !== undefined && { after }) })
      t.equal(status, 200)
      seen.push(...body.data.map((phone: { id: string }) => phone.id))
      after = body.paging.cursors.after
      next = body.paging.next
      if (next) t.match(new URL(next).searchParams.get('after'), after)
    } while (next)
    t.strictSame(seen, phones.map(phone => phone.id), `by ${limit}`)
  }
  const whole = (await list(token)).body
  t.equal(whole.data.length, 5)
  t.notOk('next' in whole.paging, 'no next on the only page')
  t.strictSame(Object.keys(whole.data[0]).sort(), [
    'code_verification_status', 'display_phone_number', 'id', 'last_onboarded_time', 'platform_type', 'quality_rating',
    'throughput', 'verified_name'
  ])
  t.strictSame((await list(token, { fields: 'status', limit: '1' })).body.data, [{ status: 'CONNECTED', id: 'p5' }])
  t.strictSame((await list(token, { after: whole.paging.cursors.after })).body, { data: [] })
  for (const limit of ['0', '101', 'x']) t.equal((await list(token, { limit })).status, 400)
  t.equal((await list(token, { after: 'x' })).status, 400)
})

await t.test('phone_numbers: a token sees only WABAs of its app and its grant', async t => {
  const good = state.issueToken({ app_id: app.app_id, waba_ids: [waba.id] })
  const wide = state.issueToken({ app_id: app.app_id })
  const elsewhere = state.issueToken({ app_id: app.app_id, waba_ids: ['1'] })
  const expired = state.issueToken({ app_id: app.app_id, expires_in: -1 })
  const mute = state.issueToken({ app_id: app.app_id, scopes: ['whatsapp_business_messaging'] })
  const path = `/v26.0/${waba.id}/phone_numbers`
  t.equal((await call(path, { access_token: good })).status, 200, 'as a parameter')
  t.equal((await list(wide)).status, 200, 'not restricted to some WABAs')
  t.equal(
    (await list(state.issueToken({ app_id: app.app_id, scopes: ['whatsapp_business_manage_events'] }))).status,
    200
  )

  for (const [bad, subcode] of [[expired, 463], ['garbage', undefined]] as const) {
    for (const [status, options] of [[401, { bearer: bad }], [400, {}]] as const) {
      const answer = await call(path, { access_token: bad }, options)
      t.equal(answer.status, status)
      t.equal(answer.body.error.code, 190)
      t.equal(answer.body.error.error_subcode, subcode)
      t.match(answer.headers.get('www-authenticate'), 'OAuth "Facebook Platform" "invalid_token"')
    }
  }
  t.match(await call(path), { status: 401, body: { error: { code: 104 } } })
  for (const [token, id] of [
    [elsewhere, waba.id], [good, foreignWaba.id], [wide, foreignWaba.id], [good, '1'], [app.app_token, waba.id]
  ] as const) {
    const { status, headers, body } = await list(token, {}, id)
    t.match({ status, ...body }, {
      status: 400,
      error: { code: 100, error_subcode: 33, type: 'GraphMethodException', message: `'${id}'` }
    })
    t.notOk(headers.has('www-authenticate'))
  }
  t.match(await list(mute), { status: 403, body: { error: { code: 200, message: /^\(#200\)/ } } })
  t.match(await list(good, {}, '%zz'), { status: 500, body: { error: { code: 1 } } })
})
