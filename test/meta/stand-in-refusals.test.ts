import t from '../run/tap.js'
import { app, pin, standIn } from './wire.js'

await t.test('each refusal of the stand-in maps to its error', async t => {
  const { meta, waba, graph } = await standIn(t)
  const other = meta.state.addApp()
  const redirectUri = 'https://a.example/cb'
  const issue = (of = {}) => meta.state.issueCode({ app_id: app.id, ...of })
  const used = issue()
  await graph.exchangeCode(app, { code: used })
  const fine = meta.state.issueToken({ app_id: app.id })
  const foreign = meta.state.issueToken({ app_id: other.app_id })
  const elsewhere = meta.state.issueToken({ app_id: app.id, waba_ids: [] })
  const wrongSecret = { ...app, secret: 'x' }

  await t.rejects(graph.exchangeCode(app, { code: used }), { code: 'META_CODE_USED' })
  await t.rejects(graph.exchangeCode(app, { code: issue({ age: 31 }) }), { code: 'META_CODE_EXPIRED' })
  await t.rejects(graph.exchangeCode(app, { code: 'x' }), { code: 'META_CODE_INVALID' })
  await t.rejects(
    graph.exchangeCode(app, { code: issue({ redirect_uri: redirectUri }) }),
    { code: 'META_REDIRECT_MISMATCH' }
  )
  await t.rejects(
    graph.exchangeCode(app, { code: issue({ redirect_uri: redirectUri }), redirect_uri: `${redirectUri}/` }),
    { code: 'META_REDIRECT_MISMATCH' }
  )
  await t.rejects(graph.exchangeCode(wrongSecret, { code: issue() }), { code: 'META_APP_REJECTED' })
  await t.rejects(graph.exchangeCode({ ...app, id: '1' }, { code: issue() }), { code: 'META_APP_REJECTED' })
  await t.rejects(graph.inspectToken(app, foreign), { code: 'META_TOKEN_INVALID' })
  await t.rejects(graph.inspectToken(app, 'garbage'), { code: 'META_TOKEN_INVALID' })
  await t.rejects(
    graph.inspectToken(app, meta.state.issueToken({ app_id: app.id, expires_in: -1 })),
    { code: 'META_TOKEN_INVALID' }
  )
  await t.rejects(graph.inspectToken(wrongSecret, fine), { code: 'META_APP_REJECTED' })
  await t.rejects(graph.extendToken(app, 'garbage', { sixtyDays: true }), { code: 'META_TOKEN_INVALID' })
  await t.rejects(
    graph.extendToken(app, meta.state.issueToken({ app_id: app.id, expires_in: -1 }), { sixtyDays: false }),
    { code: 'META_TOKEN_INVALID' }
  )
  await t.rejects(graph.extendToken(wrongSecret, fine, { sixtyDays: false }), { code: 'META_APP_REJECTED' })
  await t.rejects(graph.listPhoneNumbers(wrongSecret, fine, waba.id), { code: 'META_APP_REJECTED' })
  await t.rejects(graph.listPhoneNumbers(app, 'garbage', waba.id), { code: 'META_TOKEN_INVALID' })
  await t.rejects(graph.listPhoneNumbers(app, elsewhere, waba.id), { code: 'META_WABA_NOT_ACCESSIBLE' })
  await t.rejects(graph.listPhoneNumbers(app, fine, '404'), { code: 'META_WABA_NOT_ACCESSIBLE' })
  await t.rejects(graph.registerNumber(app, elsewhere, '1', pin), { code: 'META_PHONE_NOT_IN_WABA' })
})
