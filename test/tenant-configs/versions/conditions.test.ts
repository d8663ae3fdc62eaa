import t from '../../run/tap.js'
import { client, config, full } from '../../routes/client.js'

const { as, call, sql, rows } = await client(t)
let tenants = 0

/** A tenant with one former state, and the entity tag of its row. */
async function tenant () {
  const who = as(`tenant-${++tenants}`)
  t.equal((await call(who, 'POST', config, full)).is, '201')
  const { headers } = await call(who, 'PUT', config, { callback_url: null })
  const restore = async (ifMatch: string, n = '1') =>
    await call(who, 'POST', `${config}/versions/${n}/restore`, undefined, { 'if-match': ifMatch })
  return { who, etag: String(headers.etag), restore }
}

await t.test('a restore writes a matching row, and answers with its new entity tag', async (t) => {
  for (const form of [(etag: string) => etag, (etag: string) => `"x", ${etag}`, () => '*']) {
    const { who, etag, restore } = await tenant()
    const { is, headers, body } = await restore(form(etag))
    t.equal(is, '200')
    t.equal(body.callback_url, full.callback_url)
    t.not(headers.etag, etag)
    t.equal((await call(who, 'GET', config)).headers.etag, headers.etag)
    t.equal((await restore(String(headers.etag))).is, '200', 'the tag of a restore matches')
  }
})

await t.test('a restore leaves a row of another version as it is; the tag of another tenant is none', async (t) => {
  const { who, etag: stale, restore } = await tenant()
  const other = await tenant()
  const current = String((await call(who, 'PUT', config, { redirect_url: null })).headers.etag)
  const before = [await rows(), await sql('select * from tenant_config_versions order by tenant_id, version')]
  for (const header of [stale, `W/${current}`, other.etag, '"1"', '""']) {
    for (const n of ['1', '99']) t.equal((await restore(header, n)).is, '412 PRECONDITION_FAILED', header)
  }
  t.equal((await restore(current.slice(1, -1))).is, '400 VALIDATION_FAILED')
  t.equal((await restore(current, '99')).is, '404 VERSION_NOT_FOUND')
  t.same([await rows(), await sql('select * from tenant_config_versions order by tenant_id, version')], before)
})

await t.test('a deleted configuration matches no condition, and is restored without one', async (t) => {
  const { who, etag, restore } = await tenant()
  t.equal((await call(who, 'DELETE', config)).is, '204')
  for (const header of [etag, '*']) t.equal((await restore(header)).is, '404 CONFIG_NOT_FOUND')
  const { is, headers } = await call(who, 'POST', `${config}/versions/1/restore`)
  t.equal(is, '200')
  t.equal((await call(who, 'GET', config)).headers.etag, headers.etag)
})

await t.test('of two restores of what both have read, the second gets 412', async (t) => {
  const { etag, restore } = await tenant()
  const answers = await Promise.all([restore(etag), restore(etag)])
  t.same(answers.map(({ is }) => is).sort(), ['200', '412 PRECONDITION_FAILED'])
})
