import t from '../../run/tap.js'
import { withConnection } from '../../../src/database/connection.js'
import { startPgBouncer, withoutPgBouncer } from '../../fixtures/postgres/pgbouncer.js'
import { createDatabase } from '../../helper.js'
import { assertRefused } from './refusals.js'

await t.test('PgBouncer admits a connection, and its refusals are described', { skip: withoutPgBouncer }, async (t) => {
  const target = await createDatabase(t)
  const pooler = await startPgBouncer(target)
  t.teardown(pooler.stop)
  const url = new URL(pooler.urlOf(target))
  url.search = ''
  t.equal(await withConnection(url.href, async () => 'connected'), 'connected')
  const change = (part: Partial<URL>) => Object.assign(new URL(url), part).href
  for (const [part, reason] of [
    [{ search: '?options=-c%20a.b%3Dcanary' }, /refuses a parameter .*Remove options= from MY_URL and unset PGOPTIONS/],
    [{ password: 'canary' }, /user or the password is wrong .*PGPASSWORD/],
    [{ username: 'canary' }, /user or the password is wrong .*PGPASSWORD/],
    [{ pathname: '/canary' }, /database does not exist/],
    [{ search: '?sslmode=verify-full' }, /the server has no TLS/]
  ] as const) {
    await assertRefused(t, change(part), reason, ['canary'])
  }
})
