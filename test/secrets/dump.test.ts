import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from '../run/tap.js'
import { withoutPgDump } from '../fixtures/postgres/pg-dump.js'
import { canary, scanner } from './canaries.js'
import { buildTestApp, createDatabase, query } from '../helper.js'

const { app, as, databaseUrl } = await buildTestApp(t)
const skip = await withoutPgDump(databaseUrl)

await t.test('a dump contains no secret in clear', { skip }, async (t) => {
  const leaks = scanner({})
  const dump = () => spawnSync('pg_dump', [databaseUrl], { encoding: 'utf8' })
  const secrets = {
    access_token: canary('token'),
    fb_app_secret: canary('app'),
    verify_token: canary('verify'),
    refresh_token: canary('refresh')
  }
  const created = await app.inject({
    method: 'POST',
    url: '/api/v1/tenant/config',
    headers: as('acme'),
    payload: { waba_id: 'in clear', ...secrets }
  })
  t.equal(created.statusCode, 201)

  const { status, stdout } = dump()
  t.equal(status, 0)
  t.match(stdout, 'in clear')
  t.same(leaks('pg_dump', stdout), [])

  await query(databaseUrl, `create table planted as select '${secrets.access_token}' as text`)
  t.not(leaks('pg_dump', dump().stdout).length, 0, 'the scan finds a secret that is in the dump')
})

await t.test('a data-only restore of rows, keys and versions serves the same', { skip }, async (t) => {
  const dump = join(t.testdir({}), 'all.dump')
  const part = join(t.testdir({}), 'part.dump')
  const tables = ['--table=tenant_configs', '--table=vault_keys', '--table=tenant_config_versions']
  const payload = { waba_id: '1', phone_number_id: '1', access_token: canary('restored') }
  t.equal(
    (await app.inject({ method: 'POST', url: '/api/v1/tenant/config', headers: as('restored'), payload })).statusCode,
    201
  )
  const former = { method: 'PUT', url: '/api/v1/tenant/config', headers: as('restored') } as const
  t.equal((await app.inject({ ...former, payload: { waba_id: 'former' } })).statusCode, 200)
  t.equal((await app.inject({ ...former, payload: { waba_id: '1' } })).statusCode, 200)
  await query(databaseUrl, "update tenant_configs set last_verified_at = now() where tenant_id = 'restored'")
  t.equal(spawnSync('pg_dump', ['--format=custom', `--file=${dump}`, databaseUrl]).status, 0)
  t.equal(spawnSync('pg_dump', ['--format=custom', ...tables, `--file=${part}`, databaseUrl]).status, 0)
  for (const triggers of [[], ['--disable-triggers']]) {
    for (const options of [[...tables, dump], [part]]) {
      const DATABASE_URL = await createDatabase(t)
      const restored = spawnSync(
        'pg_restore',
        ['--data-only', '--exit-on-error', ...triggers, `--dbname=${DATABASE_URL}`, ...options],
        { encoding: 'utf8' }
      )
      t.same([restored.status, restored.stderr], [0, ''], `pg_restore --data-only ${triggers.join(' ')}`)
      const service = await buildTestApp(t, { DATABASE_URL })
      const read = async (path: string) =>
        (await service.app.inject({ url: `/api/v1/tenant/config${path}`, headers: service.as('restored') })).json()
      t.match(await read('/full'), payload)
      t.match(await read('/versions'), { versions: [{ version: 2 }, { version: 1 }], next_cursor: null })
      t.match(await read('/health'), { token_status: 'unverified', reason: null, next_check_at: /Z$/ })
      t.match(
        await query(DATABASE_URL, 'select tenant_id, phone_number_id from verified_identities'),
        [{ tenant_id: 'restored', phone_number_id: '1' }]
      )
      t.equal(
        (await service.app.inject({
          method: 'POST',
          url: '/api/v1/tenant/config',
          headers: service.as('new'),
          payload: { waba_id: '2' }
        })).statusCode,
        201,
        'a new row gets an id'
      )
      const undone = await service.app.inject({
        method: 'POST', url: '/api/v1/tenant/config/versions/2/restore', headers: service.as('restored')
      })
      t.match(undone.json(), { waba_id: 'former', access_token: `****${payload.access_token.slice(-4)}` })
      t.match(await read('/versions'), { versions: [{ version: 3, changed: ['waba_id'] }, {}, {}] })
      t.same(
        await query(
          DATABASE_URL,
          "select tgname from pg_trigger where not tgisinternal and tgname <> 'quiet' and tgenabled <> 'A'"
        ),
        []
      )
    }
  }
})
