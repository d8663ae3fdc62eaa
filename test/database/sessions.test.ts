import type { Test } from 'tap'
import t from '../run/tap.js'
import { createConfigLoader } from '../../src/app.js'
import { baseEnv, buildTestApp, createDatabase, query } from '../helper.js'

const at = '2027-01-22T12:00:00.250000Z'

/** A database with these session defaults. */
async function createDatabaseWith (t: Test, settings: Record<string, string>): Promise<string> {
  const databaseUrl = await createDatabase(t)
  const name = new URL(databaseUrl).pathname.slice(1)
  for (const [setting, value] of Object.entries(settings)) {
    await query(databaseUrl, `alter database ${name} set ${setting} = '${value}'`)
  }
  return databaseUrl
}

for (const timezone of ['Asia/Kolkata', 'America/St_Johns', 'America/New_York', 'Africa/Monrovia', 'UTC']) {
  await t.test(`times are read with their offset in a session in ${timezone}`, async (t) => {
    const { app, as, databaseUrl } = await buildTestApp(t, { DATABASE_URL: await createDatabaseWith(t, { timezone }) })
    const { tenantConfigs, configLoader } = app
    t.match(await app.pg['tenantConfig']?.pool.query('show timezone'), { rows: [{ TimeZone: timezone }] })
    const before = Date.now()
    await tenantConfigs.create('acme', null, { access_token: 'token', token_expires_at: at, phone_number_id: '8' })
    const config = (await app.inject({ url: '/api/v1/tenant/config', headers: as('acme') })).json()
    t.equal(config.token_expires_at, at)
    t.ok(Math.abs(Date.parse(config.created_at) - before) < 60_000, config.created_at)
    t.equal((await configLoader.forTenant('acme')).getAllConfig().token_expires_at, at)
    t.equal((await configLoader.explain('acme')).values.token_expires_at.value, at)
    t.match(
      await query(
        databaseUrl,
        "select extract(epoch from token_expires_at)::float8 as at from tenant_configs where tenant_id = 'acme'"
      ),
      [{ at: Date.parse(at) / 1000 }]
    )
    await query(databaseUrl, "update tenant_configs set token_expires_at = '1890-06-01T00:00:00Z'")
    t.equal(
      (await app.inject({ url: '/api/v1/tenant/config', headers: as('acme') })).json().token_expires_at,
      '1890-06-01T00:00:00.000000Z',
      'an offset with seconds'
    )
    const loader = await createConfigLoader({ databaseUrl, env: { ...baseEnv, LOG_LEVEL: 'silent' } })
    t.equal((await loader.forTenant('acme')).getAllConfig().token_expires_at, '1890-06-01T00:00:00.000000Z')
    await loader.close()
  })
}

await t.test('a start fails if the session does not write ISO dates', async (t) => {
  for (const datestyle of ['SQL, DMY', 'German', 'Postgres, MDY']) {
    const databaseUrl = await createDatabaseWith(t, { datestyle })
    const style = datestyle.includes(',') ? datestyle : `${datestyle}, DMY`
    const message = `The database writes dates in the style ${style}, not ISO. ` +
      "Run: alter role … set datestyle = 'ISO'"
    await t.rejects(buildTestApp(t, { DATABASE_URL: databaseUrl }), { message })
    await t.rejects(createConfigLoader({ databaseUrl, env: { ...baseEnv, LOG_LEVEL: 'silent' } }), { message })
  }
  await t.resolves(buildTestApp(t, { DATABASE_URL: await createDatabaseWith(t, { datestyle: 'ISO, DMY' }) }))
})
