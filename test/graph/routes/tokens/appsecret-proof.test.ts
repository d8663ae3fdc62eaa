import { createHmac } from 'node:crypto'
import t from '../../../run/tap.js'
import { startWithClient } from '../../http/client.js'

const { state, call } = await startWithClient(t)
const app = state.addApp()
const strict = state.addApp({ require_proof: true })
const waba = state.addWaba({ app_ids: [app.app_id, strict.app_id], phones: [{ id: 'p2' }, { id: 'p1' }] })

const list = (token: string, params: Record<string, string>) =>
  call(`/v26.0/${waba.id}/phone_numbers`, params, { bearer: token })
const proof = (secret: string, token: string) => createHmac('sha256', secret).update(token).digest('hex')

await t.test('a wrong appsecret_proof is refused, and a missing one if the app requires it', async t => {
  const free = state.issueToken({ app_id: app.app_id })
  const bound = state.issueToken({ app_id: strict.app_id })
  const wrong = 'Invalid appsecret_proof provided in the API argument'
  const missing = 'API calls from the server require an appsecret_proof argument'
  const right = proof(strict.app_secret, bound)
  for (const [token, sent, message] of [
    [free, undefined, undefined],
    [free, proof(app.app_secret, free), undefined],
    [free, proof(strict.app_secret, free), wrong],
    [bound, right, undefined],
    [bound, undefined, missing],
    [bound, right.toUpperCase(), wrong],
    [bound, '', wrong]
  ] as const) {
    const { status, body } = await list(token, sent === undefined ? {} : { appsecret_proof: sent })
    t.equal(status, message === undefined ? 200 : 400)
    if (message !== undefined) t.match(body.error, { code: 100, type: 'GraphMethodException', message })
  }
  const { next } = (await list(bound, { appsecret_proof: right, limit: '1', fields: 'id' })).body.paging
  const link = new URL(next).searchParams
  t.strictSame([link.get('access_token'), link.get('fields'), link.has('appsecret_proof')], [bound, 'id', false])
  t.match(await (await fetch(next)).json(), { error: { message: missing } }, 'the link does not carry the proof')
})
