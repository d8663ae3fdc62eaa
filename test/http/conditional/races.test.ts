import t from '../../run/tap.js'
import { connect, untilWaiting } from '../../helper.js'
import { client, config, full, type Answer, type Who } from '../../routes/client.js'

const { app, as, call, databaseUrl } = await client(t)
const { call: callOther } = await client(t, { DATABASE_URL: databaseUrl })
const mismatch = '412 PRECONDITION_FAILED'
let tenants = 0

async function create () {
  const id = `tenant-${++tenants}`
  const who = as(id)
  const { headers } = await call(who, 'POST', config, { ...full, waba_id: null })
  return { id, who, etag: String(headers.etag) }
}

const send = async (who: Who, etag: string, method: string, url: string, body?: unknown) =>
  await call(who, method, url, body, { 'if-match': etag })

/** Sends every other request to another instance. */
const callOf = (n: number) => n % 2 === 0 ? call : callOther

/** Locks the tenant's row until all writes wait for it, so that all of them meet the same version. */
async function together (id: string, writes: Array<() => Promise<Answer>>): Promise<Answer[]> {
  const lock = await connect(t, databaseUrl)
  await lock.query('begin')
  await lock.query('select from tenant_configs where tenant_id = $1 for update', [id])
  const answers = writes.map(async (write) => await write())
  await untilWaiting(databaseUrl, writes.length)
  await lock.query('commit')
  return await Promise.all(answers)
}

for (const [name, body] of [
  ['callback_url', (n: number) => ({ callback_url: `https://${n}.example` })],
  ['access_token', (n: number) => ({ access_token: `token-${n}` })]
] as const) {
  await t.test(`of 20 PUTs of ${name} with one entity tag exactly one is written`, async (t) => {
    for (let round = 0; round < 5; round++) {
      const { id, who, etag } = await create()
      const writes = Array.from({ length: 20 }, (_, n) => async () =>
        await callOf(n)(who, 'PUT', config, body(n), { 'if-match': etag }))
      const answers = round === 0 ? await together(id, writes) : await Promise.all(writes.map((write) => write()))
      const winner = answers.findIndex(({ is }) => is === '200')
      t.equal(answers.filter(({ is }) => is === mismatch).length, 19)
      const stored = await call(who, 'GET', `${config}/full`)
      t.match(stored.body, body(winner))
      t.equal(stored.headers.etag, answers[winner]?.headers.etag)
    }
  })
}

await t.test('of different writes with one entity tag exactly one is executed', async (t) => {
  for (let round = 0; round < 10; round++) {
    const { id, who, etag } = await create()
    const writes = ([
      ['PUT', config, { callback_url: null }], ['PUT', config, { access_token: null }], ['POST', `${config}/activate`],
      ['POST', `${config}/deactivate`], ['DELETE', config], ['DELETE', `${config}?unsubscribe=true`]
    ] as const).map(([method, url, body]) => async () => await send(who, etag, method, url, body))
    const turned = [...writes.slice(round % 6), ...writes.slice(0, round % 6)]
    const answers = await together(id, turned)
    const [done, ...more] = answers.filter(({ is }) => !/^4/.test(is))
    t.same(more, [])
    const refusals = done?.is === '204' ? ['404 CONFIG_NOT_FOUND'] : [mismatch]
    t.same([...new Set(answers.map(({ is }) => is).filter((is) => is !== done?.is))], refusals)
  }
})

await t.test('a write that waits for another one sees the version that it left', async (t) => {
  for (const [method, url, body] of [
    ['PUT', config, { callback_url: null }], ['POST', `${config}/deactivate`], ['DELETE', config],
    ['DELETE', `${config}?unsubscribe=true`]
  ] as const) {
    for (const [end, expected] of [['commit', mismatch], ['rollback', /^20[04]$/]] as const) {
      const { id, who, etag } = await create()
      const other = await connect(t, databaseUrl)
      await other.query('begin')
      await other.query('update tenant_configs set verify_token = null where tenant_id = $1', [id])
      const answer = send(who, etag, method, url, body)
      await untilWaiting(databaseUrl, 1)
      await other.query(end)
      t.match((await answer).is, expected, `${method} ${url} ${end}`)
    }
  }
})

await t.test('a PUT of URLs and the verify token is one statement and its record', async (t) => {
  const { who, etag } = await create()
  let statements = 0
  app.pg['tenantConfig']?.pool.on('acquire', () => { statements++ })
  const body = { callback_url: 'https://one.example', verify_token: 'one' }
  const { headers } = await call(who, 'PUT', config, body)
  t.equal(statements, 2)
  t.equal((await send(who, String(headers.etag), 'PUT', config, body)).is, '200')
  t.equal(statements, 4)
  t.equal((await call(who, 'GET', config)).is, '200')
  t.equal(statements, 5)
  t.equal((await send(who, etag, 'PUT', config, body)).is, mismatch)
})

await t.test('PUTs of tokens that meet without a condition are all written, one after the other', async (t) => {
  const { id, who } = await create()
  const answers = await together(id, Array.from({ length: 12 }, (_, n) => async () =>
    await callOf(n)(who, 'PUT', config, { access_token: `token-${n % 5}` })))
  t.same([...new Set(answers.map(({ is }) => is))], ['200'])
  t.equal(new Set(answers.map(({ headers }) => headers.etag)).size, 12)
})
