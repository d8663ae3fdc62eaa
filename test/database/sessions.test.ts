import { once } from 'node:events'
import { createServer } from 'node:net'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { createConfigLoader } from '../../src/app.js'
import { withConnection } from '../../src/database/connection.js'
import { baseEnv, buildTestApp, createDatabase, query } from '../helper.js'

const at = '2027-01-22T12:00:00.250000Z'

/** A database with these session defaults. */
async function createWith (t: Test, settings: Record<string, string>): Promise<string> {
  const databaseUrl = await createDatabase(t)
  const name = new URL(databaseUrl).pathname.slice(1)
  for (const [setting, value] of Object.entries(settings)) {
    await query(databaseUrl, `alter database ${name} set ${setting} = '${value}'`)
  }
  return databaseUrl
}

for (const timezone of ['Asia/Kolkata', 'America/St_Johns', 'America/New_York', 'Africa/Monrovia', 'UTC']) {
  await t.test(`times are read with their offset in a session in ${timezone}`, async (t) => {
    const { app, as, databaseUrl } = await buildTestApp(t, { DATABASE_URL: await createWith(t, { timezone }) })
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
    const databaseUrl = await createWith(t, { datestyle })
    const style = datestyle.includes(',') ? datestyle : `${datestyle}, DMY`
    const message = `The database writes dates in the style ${style}, not ISO. ` +
      "Run: alter role … set datestyle = 'ISO'"
    await t.rejects(buildTestApp(t, { DATABASE_URL: databaseUrl }), { message })
    await t.rejects(createConfigLoader({ databaseUrl, env: { ...baseEnv, LOG_LEVEL: 'silent' } }), { message })
  }
  await t.resolves(buildTestApp(t, { DATABASE_URL: await createWith(t, { datestyle: 'ISO, DMY' }) }))
})

await t.test('the startup message sets nothing that a pooler refuses', async (t) => {
  let startup = ''
  const server = createServer((socket) => {
    socket.once('data', (message) => {
      // Length and version in 8 bytes, then names and values.
      startup = message.toString('latin1', 8)
      socket.destroy()
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const address = server.address()
  const url = `postgres://u:p@127.0.0.1:${typeof address === 'object' ? address?.port : ''}/x`
  const ours = 'user\0u\0database\0x\0application_name\0whatsapp-tenant-config\0'
  for (const [parameters, sent] of Object.entries({
    '': ours,
    '?statement_timeout=1&lock_timeout=1&keepalives=0&pgbouncer=true&client_encoding=latin1': ours,
    '?application_name=mine&options=-c%20work_mem%3D64kB':
      `${ours.replace('whatsapp-tenant-config', 'mine')}options\0-c work_mem=64kB\0`
  })) {
    await t.rejects(withConnection(`${url}${parameters}`, async () => {}), /closed the connection/)
    // `pg` always adds the encoding, which poolers accept.
    t.equal(startup, `${sent}client_encoding\0UTF8\0\0`, parameters)
  }
})
