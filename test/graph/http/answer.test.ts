import t from '../../run/tap.js'
import { startWithClient } from './client.js'

const { state, call } = await startWithClient(t)
const app = state.addApp()
const ours = { client_id: app.app_id, client_secret: app.app_secret }

await t.test('the answer has the served version and trace ids; an unknown version is refused', async t => {
  for (const [requested, served] of [
    ['v21.0', 'v21.0'], ['v24.0', 'v24.0'], ['v26.0', 'v26.0'], ['v19.0', 'v21.0'], ['v1.0', 'v21.0']
  ] as const) {
    const { status, headers } = await call(`/${requested}/oauth/access_token`, {
      ...ours,
      grant_type: 'client_credentials'
    })
    t.strictSame([status, headers.get('facebook-api-version')], [200, served])
    for (const name of ['x-fb-trace-id', 'x-fb-request-id']) t.match(headers.get(name), /^A[\w-]{22}$/)
    t.match(await call(`/${requested}/me`), {
      status: 400,
      body: { error: { code: 2500, message: 'An active access token must be used' } }
    })
  }
  for (const unknown of ['/v27.0/me', '/v0.0/me', '/v21.1/me', '/me']) {
    t.match(await call(unknown), {
      status: 400,
      body: { error: { type: 'OAuthException', code: 2500, message: 'Unknown path components: /me' } }
    })
  }
})
