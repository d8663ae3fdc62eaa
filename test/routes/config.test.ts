import t from 'tap'
import { buildTestApp } from '../helper.js'

const url = '/api/v1/tenant/config'

await t.test('a tenant creates and reads its configuration', async (t) => {
  const { app, as } = await buildTestApp(t)
  const created = await app.inject({ method: 'POST', url, headers: as('acme', 'user-1'), payload: { waba_id: '1', access_token: 'EAAG0123456789abcdef' } })
  t.equal(created.statusCode, 201)
  t.equal(created.headers.location, url)
  t.match(created.json(), { tenant_id: 'acme', user_id: 'user-1', waba_id: '1', access_token: '****cdef', is_active: true, onboarding_completed: false })
  const read = await app.inject({ url, headers: as('acme') })
  t.same(read.json(), created.json())
})
