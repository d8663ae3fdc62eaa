import t from '../run/tap.js'
import { client, config, configs } from '../routes/client.js'

const { app, as, admin, call, log, sql } = await client(t)

/** The log lines of the request that `ask` sends: those that share its id. */
async function linesOf (ask: () => Promise<unknown>): Promise<Record<string, unknown>[]> {
  const before = log().length
  await ask()
  const lines: Record<string, unknown>[] = log().slice(before).split('\n').filter(
    (line) => line.includes('"reqId"')
  ).map((line) => JSON.parse(line))
  t.equal(new Set(lines.map(({ reqId }) => reqId)).size, 1)
  return lines
}

const isEnd = ({ msg }: Record<string, unknown>) => msg === 'request completed'

await t.test('the last line of a request contains the tenant and the sub of its token', async (t) => {
  const lines = await linesOf(async () => await call(as('acme', 'user-1'), 'GET', config))
  t.match(lines, [
    { msg: 'incoming request', req: { method: 'GET', path: config } },
    { msg: 'request completed', tenant_id: 'acme', sub: 'user-1', res: { statusCode: 404 } }
  ])
  t.notOk('tenant_id' in (lines[0] ?? {}), 'the first line is written before the token is checked')
  t.match(
    (await linesOf(async () => await call(
      { authorization: `Bearer ${app.auth.mint({ admin: true, userId: 'root' }, 60)}` },
      'GET',
      `${configs}/stats`
    ))).find(isEnd),
    { sub: 'root', res: { statusCode: 200 } }
  )
})

await t.test('claims that the token lacks are left out, as is the tenant of an admin', async (t) => {
  const end = async (who: Record<string, string>, url: string) => Object.keys(
    (await linesOf(async () => await call(who, 'GET', url))).find(isEnd) ?? {}
  )
  const bare = ['level', 'time', 'pid', 'hostname', 'reqId']
  t.strictSame(await end(as('acme'), config), [...bare, 'tenant_id', 'res', 'responseTime', 'msg'])
  t.strictSame(await end(admin, `${configs}/stats`), [...bare, 'res', 'responseTime', 'msg'])
  t.strictSame(
    await end(as('acme'), `${configs}/stats`),
    [...bare, 'res', 'responseTime', 'msg'],
    'a refused tenant is left out, too'
  )
  t.strictSame(await end({ authorization: 'Bearer x' }, config), [...bare, 'res', 'responseTime', 'msg'])
  t.strictSame(await end({}, '/health/live'), [...bare, 'res', 'responseTime', 'msg'])
})

await t.test('the line of an error contains the tenant and the sub', async (t) => {
  await sql("insert into tenant_configs (tenant_id, access_token) values ('acme', 'not sealed')")
  const lines = await linesOf(
    async () => { t.equal((await call(as('acme', 'user-1'), 'GET', config)).is, '500 SECRET_UNREADABLE') }
  )
  t.match(lines.find(({ msg }) => msg === 'answered SECRET_UNREADABLE'), {
    level: 50,
    tenant_id: 'acme',
    sub: 'user-1'
  })
})

await t.test('unprintable characters of the claims are replaced in the log', async (t) => {
  const lines = await linesOf(async () => await call(
    as('a\u202ecme \u2028müller\u200b', 'u\u2066ser\ue000'),
    'GET',
    config
  ))
  t.match(lines.find(isEnd), { tenant_id: 'a…cme …müller…', sub: 'u…ser…' })
})

await t.test('no log line contains a token', (t) => {
  t.notMatch(log(), /Bearer|eyJ/)
  t.end()
})
