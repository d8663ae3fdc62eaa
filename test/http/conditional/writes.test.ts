import t from '../../run/tap.js'
import { client, config, full, type Who } from '../../routes/client.js'

const { as, call, sql, rows } = await client(t)

type Write = [method: string, url: string, body?: unknown]

/** The writes that may be conditional, each with the status of its success. */
const writes: Array<[Write, string]> = [
  [['PUT', config, { callback_url: 'https://new.example' }], '200'],
  [['PUT', config, { access_token: 'a-new-token' }], '200'],
  [['POST', `${config}/activate`], '200'],
  [['POST', `${config}/deactivate`], '200'],
  [['DELETE', config], '204'],
  [['DELETE', `${config}?unsubscribe=true`], '204']
]
let tenants = 0

/** Creates a configuration without an account: Meta need not be called to delete it. */
async function create () {
  const id = `tenant-${++tenants}`
  const who = as(id)
  const { headers } = await call(who, 'POST', config, { ...full, waba_id: null })
  return { id, who, etag: String(headers.etag) }
}

const send = async (who: Who, [method, url, body]: Write, ifMatch: string) =>
  await call(who, method, url, body, { 'if-match': ifMatch })

await t.test('of two clients that change what both have read, the second gets 412', async (t) => {
  const { who, etag } = await create()
  const [mine, theirs] = await Promise.all([call(who, 'GET', config), call(who, 'GET', config)])
  t.strictSame([mine.headers.etag, theirs.headers.etag], [etag, etag])
  const first = await send(who, ['PUT', config, { callback_url: 'https://mine.example' }], etag)
  t.equal(first.is, '200')
  const second = await send(who, ['PUT', config, { callback_url: 'https://theirs.example' }], etag)
  t.equal(second.is, '412 PRECONDITION_FAILED')
  t.match(second.body.detail, /nothing was written/)
  const { body, headers } = await call(who, 'GET', config)
  t.strictSame([body.callback_url, headers.etag], ['https://mine.example', first.headers.etag])
  const again = await send(who, ['PUT', config, { redirect_url: 'https://theirs.example' }], String(headers.etag))
  t.match(again.body, { callback_url: 'https://mine.example', redirect_url: 'https://theirs.example' })
})

for (const [write, success] of writes) {
  const name = `${write[0]} ${write[1].slice(config.length)} ${Object.keys(Object(write[2])).join()}`

  await t.test(`${name} writes a matching row`, async (t) => {
    for (const form of [
      (etag: string) => etag, (etag: string) => `"x", ${etag}`, (etag: string) => `,${etag}\t,W/"x"`, () => '*'
    ]) {
      const { who, etag } = await create()
      const { is, headers } = await send(who, write, form(etag))
      t.equal(is, success, form('…'))
      t.notOk(headers.etag === etag)
    }
  })

  await t.test(`${name} leaves a row of another version as it is`, async (t) => {
    const { who, etag } = await create()
    const other = await create()
    const stale = etag
    const current = String((await call(who, 'PUT', config, { verify_token: 'changed' })).headers.etag)
    const before = await rows()
    for (const header of [
      stale, `W/${current}`, `W/${current}, ${stale}`, other.etag, '"x"', '""', '', ',', '"*"',
      `"${current.slice(1, -1)},"`
    ]) {
      t.equal((await send(who, write, header)).is, '412 PRECONDITION_FAILED', header)
    }
    for (const header of [current.slice(1, -1), `w/${current}`, `*, ${current}`, `${current} x`]) {
      const { is, body } = await send(who, write, header)
      t.equal(is, '400 VALIDATION_FAILED', header)
      t.match(body.errors, [{ field: 'if-match' }])
    }
    t.same(await rows(), before)
    await sql('update tenant_configs set waba_id = waba_id')
    t.equal((await send(who, write, current)).is, '412 PRECONDITION_FAILED', 'after a change by psql')
  })

  await t.test(`${name} of a missing row is a 404 with any condition`, async (t) => {
    const { etag } = await create()
    for (const header of [etag, '*', '"x"', '']) {
      t.equal((await send(as('nobody'), write, header)).is, '404 CONFIG_NOT_FOUND', header)
    }
  })

  await t.test(`${name} of a row that was created anew is a 412`, async (t) => {
    const { who, etag } = await create()
    await call(who, 'DELETE', config)
    await call(who, 'POST', config, { callback_url: 'https://second.example' })
    t.equal((await send(who, write, etag)).is, '412 PRECONDITION_FAILED')
  })
}

await t.test('a malformed request is a 400 before it is a 412', async (t) => {
  const { who } = await create()
  t.equal((await send(who, ['PUT', config, { nonsense: 1 }], '"x"')).is, '400 VALIDATION_FAILED')
  t.equal((await send(who, ['PUT', config, { access_token: '****0001' }], '"x"')).is, '400 MASKED_VALUE')
  t.equal((await send({}, ['PUT', config, { nonsense: 1 }], '"x"')).is, '401 UNAUTHENTICATED')
})

await t.test('a refused DELETE or deactivation ends no onboarding', async (t) => {
  const waiting = async (id: string) => await sql(
    `insert into onboardings (tenant_id, code_hash, status, steps) values ($1, $1, 'in_progress', '[]')
      returning status`, [id])
  const statusOf = async (id: string) => (await sql('select status from onboardings where tenant_id = $1', [id]))
  const ends: Write[] = [['DELETE', config], ['DELETE', `${config}?unsubscribe=true`], ['POST', `${config}/deactivate`]]
  for (const write of ends) {
    const { id, who, etag } = await create()
    await waiting(id)
    t.equal((await send(who, write, '"x"')).is, '412 PRECONDITION_FAILED')
    t.same(await statusOf(id), [{ status: 'in_progress' }])
    t.match((await send(who, write, etag)).is, /^20[04]$/)
    t.notSame(await statusOf(id), [{ status: 'in_progress' }])
  }
  for (const url of [config, `${config}?unsubscribe=true`]) {
    const id = `without-row${url.length}`
    await waiting(id)
    for (const header of ['"x"', '*']) {
      t.equal((await send(as(id), ['DELETE', url], header)).is, '404 CONFIG_NOT_FOUND')
      t.same(await statusOf(id), [{ status: 'in_progress' }])
    }
    t.equal((await call(as(id), 'DELETE', url)).is, '204', 'without a condition it ends the onboarding')
  }
})
