import t from '../run/tap.js'
import { buildTestApp, query } from '../helper.js'

await t.test('a row with a tampered secret is unreadable, and other rows stay readable', async (t) => {
  const { app, as, databaseUrl: url } = await buildTestApp(t)
  for (const tenant of ['acme', 'moved', 'broken']) {
    await app.tenantConfigs.create(
      tenant,
      null,
      { access_token: `secret of ${tenant}`, verify_token: `word of ${tenant}` }
    )
  }
  await query(
    url,
    "update tenant_configs set access_token = (select access_token from tenant_configs where tenant_id = 'acme') " +
      "where tenant_id = 'moved'"
  )
  await query(
    url,
    "update tenant_configs set access_token = left(access_token, -4) || 'AAAA' where tenant_id = 'broken'"
  )
  const read = async (tenant: string) => await app.inject({ url: '/api/v1/tenant/config/full', headers: as(tenant) })
  t.match((await read('acme')).json(), { access_token: 'secret of acme' })
  for (const tenant of ['moved', 'broken']) {
    const { statusCode, body } = await read(tenant)
    t.equal(statusCode, 500)
    t.match(body, 'SECRET_UNREADABLE')
    t.notMatch(body, /secret of|word of|v1\./)
  }
})
