import t from '../../run/tap.js'
import { onboardingService } from '../../onboarding/onboarding-service.js'
import { client, config, configs, full } from '../../routes/client.js'

await t.test('each write of a tenant names the user who made it', async (t) => {
  const { as, call } = await client(t)
  const users = ['ann', 'bob', 'cleo', 'dora', 'eve', 'fay', 'gil', 'hal']
  for (const [i, [method, path, body]] of ([
    ['PUT', '', { callback_url: null }],
    ['PUT', '', { access_token: 'another-token' }],
    ['POST', '/deactivate'],
    ['POST', '/activate'],
    ['POST', '/versions/1/restore'],
    ['DELETE', ''],
    ['POST', '/versions/6/restore'],
    ['DELETE', '?unsubscribe=true']
  ] as const).entries()) {
    if (i === 0) t.equal((await call(as('acme', 'zoe'), 'POST', config, { ...full, waba_id: null })).is, '201')
    t.match((await call(as('acme', users[i]), method, config + path, body)).is, /^20/, `${method} ${path}`)
  }
  const { body } = await call(as('acme'), 'GET', `${config}/versions`)
  // A restore that creates the row replaces none.
  const named = users.filter((user) => user !== 'gil').reverse()
  t.match(body.versions, named.map((actor) => ({ actor })))
  t.match((await call(as('acme'), 'GET', `${config}/versions/1`)).body, { actor: 'ann' })
})

await t.test('a user without `sub`, an admin and psql have no name in a version', async (t) => {
  const { as, admin, call, sql } = await client(t)
  const acme = as('acme')
  t.equal((await call(acme, 'POST', config, full)).is, '201')
  t.equal((await call(acme, 'PUT', config, { callback_url: null })).is, '200')
  await sql("update tenant_configs set callback_url = 'https://psql.example'")
  t.equal((await call({ ...admin }, 'DELETE', `${configs}/delete-tenant/acme`)).is, '204')
  t.equal((await call(acme, 'POST', `${config}/versions/3/restore`)).is, '200')
  t.equal((await call(admin, 'DELETE', `${configs}/delete-all?confirm=delete-all:1`)).is, '200')
  t.same(await sql('select version, actor from tenant_config_versions order by 1'),
    [1, 2, 3, 4].map((version) => ({ version, actor: null })))
})

await t.test('an onboarding names the user who logged in', async (t) => {
  const { as, call, sql, issue, waba, existing } = await onboardingService(t)
  const tenant = await existing({ waba_id: 'old', access_token: 'the-old-token-0001' })
  const url = '/api/v1/tenant/onboard/whatsapp-client'
  const login = { code: issue(), waba_id: waba.id, phone_number_id: '3' }
  t.equal((await call(as(tenant, 'ann'), 'POST', url, login)).is, '200')
  t.same(
    await sql('select distinct actor from tenant_config_versions where tenant_id = $1', [tenant]),
    [{ actor: 'ann' }]
  )
})
