import t from '../run/tap.js'
import { client, columns, config, configs, full, type Client } from './client.js'

const service = await client(t)
const { as, admin, call, rows, sql } = service

// PostgreSQL's "C" collation sorts by bytes; UTF-16 sorts differently.
const byBytes = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b))
const tenants = [
  'A', 'a', 'a%', 'a%b', 'a/b', 'aA', 'a_', 'a_b', 'ab', 'a\\', 'ä', 'ﬀ', '😀', '😀a', '\u{10ffff}',
  '\u{10ffff}'.repeat(100), ' ', '.', '..', 'Z', '-'
].sort(byBytes)

async function ids (query: string, { call, admin }: Pick<Client, 'call' | 'admin'> = service): Promise<unknown[]> {
  const found: unknown[] = []
  for (let cursor = ''; ;) {
    const { is, body: { configs: page, next_cursor: next } } = await call(
      admin,
      'GET',
      `${configs}/all?${query}${cursor}`
    )
    if (is !== '200' || !Array.isArray(page)) return [is]
    found.push(...page.map(({ tenant_id: id }) => id))
    if (typeof next !== 'string') return next === null ? found : ['no next_cursor']
    cursor = `&cursor=${next}`
  }
}

await t.test('without configurations the list is empty', async (t) => {
  const { is, body } = await call(admin, 'GET', `${configs}/all`)
  t.strictSame([is, body], ['200', { configs: [], next_cursor: null }])
})

await t.test('the list contains every tenant, sorted by bytes, for any page size', async (t) => {
  for (const id of [...tenants].reverse()) {
    t.equal((await call(as(id), 'POST', config, { ...full, phone_number_id: null })).is, '201')
  }
  for (const limit of [1, 2, 7, tenants.length - 1, tenants.length, 200]) {
    t.strictSame(await ids(`limit=${limit}`), tenants)
  }
  const { body } = await call(admin, 'GET', `${configs}/all`)
  t.match(
    body.configs,
    [
      {
        access_token: '****',
        fb_app_secret: '****',
        verify_token: '****',
        refresh_token: '****',
        waba_id: full.waba_id
      }
    ]
  )
  const [first] = Array.isArray(body.configs) ? body.configs : []
  t.strictSame(Object.keys(first), columns)
  await call(as('A'), 'PUT', config, { access_token: null })
  t.match(
    (await call(admin, 'GET', `${configs}/all?tenant_id=A`)).body,
    { configs: [{ access_token: null, verify_token: '****' }] }
  )
})

await t.test('a page has 50 configurations by default', async (t) => {
  const other = await client(t)
  await other.sql("insert into tenant_configs (tenant_id) select 't' || n from generate_series(1, 250) n")
  const size = async (query: string) => (await other.call(other.admin, 'GET', `${configs}/all?${query}`)).body
  t.match(await size(''), { configs: { length: 50 }, next_cursor: String })
  t.match(await size('limit=200'), { configs: { length: 200 }, next_cursor: String })
  t.equal((await ids('', other)).length, 250)
  t.strictSame(await ids('tenant_id=t24&limit=3', other), [
    't24', 't240', 't241', 't242', 't243', 't244', 't245', 't246', 't247', 't248', 't249'
  ])
})

await t.test('every character of the tenant_id prefix is literal', async (t) => {
  for (const prefix of [
    'a', 'A', 'a%', 'a_', 'a\\', 'a/', '%', '_', '😀', 'ä', 'ﬀ', '\u{10ffff}', '\u{10ffff}'.repeat(100), ' ', '.',
    'zz', 'ab'
  ]) {
    t.strictSame(
      await ids(`limit=2&tenant_id=${encodeURIComponent(prefix)}`),
      tenants.filter((id) => id.startsWith(prefix)),
      prefix
    )
  }
})

await t.test('is_active and onboarding_completed filter the list', async (t) => {
  for (const id of ['a', 'ab']) await call(as(id), 'POST', `${config}/deactivate`)
  await sql("update tenant_configs set onboarding_completed = true where tenant_id in ('ab', 'Z')")
  t.strictSame(await ids('is_active=false'), ['a', 'ab'])
  t.strictSame(await ids('onboarding_completed=true&limit=1'), ['Z', 'ab'])
  t.strictSame(await ids('is_active=false&onboarding_completed=true'), ['ab'])
  t.strictSame(await ids('is_active=true&onboarding_completed=true&tenant_id=a'), [])
  t.equal((await ids('is_active=true')).length, tenants.length - 2)
  t.equal((await ids('onboarding_completed=false')).length, tenants.length - 2)
})

await t.test('token_status filters the tenants with a token', async (t) => {
  const withToken = tenants.filter((id) => id !== 'A')
  t.strictSame(await ids('token_status=unverified&limit=3'), withToken)
  for (const [status, of] of [['ok', ['a', 'ab', 'Z', 'ä', '😀']], ['revoked', ['a_b']]] as const) {
    await sql('update token_watch set status = $1 where tenant_id = any($2)', [status, of])
  }
  for (const limit of [1, 2, 5, 200]) {
    t.strictSame(await ids(`token_status=ok&limit=${limit}`), ['Z', 'a', 'ab', 'ä', '😀'])
  }
  t.strictSame(await ids('token_status=revoked'), ['a_b'])
  t.strictSame(await ids('token_status=reauth_required'), [])
  t.strictSame(await ids('token_status=ok&tenant_id=a'), ['a', 'ab'])
  t.strictSame(await ids('token_status=ok&is_active=false'), ['a', 'ab'])
  t.strictSame(await ids('token_status=ok&is_active=false&onboarding_completed=true'), ['ab'])
  t.strictSame(await ids('token_status=ok&onboarding_completed=true&limit=1'), ['Z', 'ab'])
  t.strictSame(await ids('token_status=unverified&is_active=false'), [])
  const { body } = await call(admin, 'GET', `${configs}/all?token_status=revoked`)
  t.match(body.configs, [{ access_token: '****', verify_token: '****', waba_id: full.waba_id }])
  const [first] = Array.isArray(body.configs) ? body.configs : []
  t.strictSame(Object.keys(first), columns)
})

await t.test('a cursor stays valid after the last row of its page is deleted', async (t) => {
  const { body: { next_cursor: next } } = await call(admin, 'GET', `${configs}/all?limit=9`)
  await sql('delete from tenant_configs where tenant_id = $1', [tenants[8]])
  t.match(
    (await call(admin, 'GET', `${configs}/all?limit=1&cursor=${String(next)}`)).body,
    { configs: [{ tenant_id: tenants[9] }] }
  )
})

await t.test('a query with an invalid or unknown parameter is refused', async (t) => {
  for (const query of [
    'limit=0', 'limit=201', 'limit=-1', 'limit=1.5', 'limit=abc', 'limit=', 'limit=1&limit=2', 'limit=null',
    'limit=true', 'limit=1e9', 'limit=NaN', 'limit=Infinity', 'limit[]=1',
    'is_active=1', 'is_active=', 'is_active=TRUE', 'is_active=yes', 'is_active=true&is_active=true', 'is_active=null',
    'onboarding_completed=0', 'onboarding_completed',
    'tenant_id=', 'tenant_id=%00', 'tenant_id=a%0a', 'tenant_id=a&tenant_id=b', `tenant_id=${'a'.repeat(101)}`,
    'cursor=YQ&cursor=YQ',
    'token_status=', 'token_status=OK', 'token_status=none', 'token_status=null', 'token_status=ok,revoked',
    'token_status=ok&token_status=ok',
    'active=true', 'Limit=1', 'offset=1', 'tenantId=a', 'limit%00=1', 'constructor=1', '__proto__=1', 'waba_id=1'
  ]) t.equal((await call(admin, 'GET', `${configs}/all?${query}`)).is, '400 VALIDATION_FAILED', query)
  const cursorOf = (bytes: Buffer | string) => Buffer.from(bytes).toString('base64url')
  for (const cursor of [
    '', 'a', '!!!!', 'YQ==', 'YR', ' YQ', 'YQ ', 'null', 'undefined', cursorOf(''), cursorOf('\0'), cursorOf('a\0'),
    cursorOf('a\n'), cursorOf(Buffer.from([0xff])),
    cursorOf(Buffer.from([0xed, 0xa0, 0x80])), cursorOf('a'.repeat(101)), cursorOf('😀'.repeat(101)), 'A'.repeat(8000)
  ]) {
    t.equal(
      (await call(admin, 'GET', `${configs}/all?cursor=${encodeURIComponent(cursor)}`)).is,
      '400 INVALID_CURSOR',
      cursor.slice(0, 20)
    )
  }
  t.equal((await call(admin, 'GET', `${configs}/all?cursor=${cursorOf('nobody has this id')}`)).is, '200')
})

await t.test('an admin deletes the configuration of any tenant id', async (t) => {
  t.equal((await call(admin, 'DELETE', `${configs}/delete-tenant/nobody`)).is, '404 CONFIG_NOT_FOUND')
  // An encoded slash or percent sign is decoded only once.
  for (const id of ['a%252Fb', 'a%2525', 'a%255F']) {
    t.equal(
      (await call(admin, 'DELETE', `${configs}/delete-tenant/${id}`)).is,
      '404 CONFIG_NOT_FOUND'
    )
  }
  const left = (await rows()).map((row) => String(row.tenant_id))
  // By the URL standard, a client resolves these two before it sends them.
  for (const id of left.filter((id) => !['.', '..'].includes(id))) {
    const url = `${configs}/delete-tenant/${encodeURIComponent(id)}`
    t.equal((await call(admin, 'DELETE', url)).is, '204', id)
    t.equal((await call(admin, 'DELETE', url)).is, '404 CONFIG_NOT_FOUND')
  }
  t.equal((await rows()).length, 2)
  for (const [id, is] of [
    ['', '400 VALIDATION_FAILED'], ['%00', '400 VALIDATION_FAILED'], ['a%0a', '400 VALIDATION_FAILED'],
    ['a'.repeat(101), '400 VALIDATION_FAILED'], ['%F0%9F%98%80'.repeat(101), '400 VALIDATION_FAILED'],
    ['a'.repeat(9000), '400 VALIDATION_FAILED'], ['a/b', '404 ROUTE_NOT_FOUND'], ['a?x=1', '400 VALIDATION_FAILED'],
    ['%ff', '400 VALIDATION_FAILED'], ['%', '400 VALIDATION_FAILED'], ['%ed%a0%80', '400 VALIDATION_FAILED']
  ] as const) t.equal((await call(admin, 'DELETE', `${configs}/delete-tenant/${id}`)).is, is, id.slice(0, 20))
  t.equal((await call(admin, 'DELETE', `${configs}/delete-tenant/a`, { force: true })).is, '400 VALIDATION_FAILED')
})
