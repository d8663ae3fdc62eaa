import t from '../../run/tap.js'
import { verifyStored } from '../../fixtures/verified-rows.js'
import { client, config, configs, full } from '../../routes/client.js'

const { app, as, admin, call, sql } = await client(t)
const acme = as('acme', 'user-1')
const versions = `${config}/versions`

/** The numbers on all pages, as lists of a page each. */
async function pages (who: Record<string, string>, limit: number): Promise<unknown[][]> {
  const found: unknown[][] = []
  for (let cursor = ''; ;) {
    const { body } = await call(who, 'GET', `${versions}?limit=${limit}${cursor}`)
    const { versions: page, next_cursor: next } = body
    found.push(Array.isArray(page) ? page.map(({ version }) => version) : ['no page'])
    if (typeof next !== 'string') return found
    cursor = `&cursor=${next}`
  }
}

await t.test('a tenant without changes has no versions', async (t) => {
  t.same((await call(acme, 'GET', versions)).body, { versions: [], next_cursor: null })
  t.equal((await call(acme, 'POST', config, full)).is, '201')
  t.same((await call(acme, 'GET', versions)).body, { versions: [], next_cursor: null })
  for (const n of ['1', 'previous']) t.equal((await call(acme, 'GET', `${versions}/${n}`)).is, '404 VERSION_NOT_FOUND')
})

await t.test('each kind of change is listed, the newest first', async (t) => {
  await verifyStored(app, 'acme')
  for (const [method, path, body] of [
    ['PUT', '', { callback_url: null, verify_token: 'another verify token' }],
    ['PUT', '', { callback_url: null }],
    ['PUT', '', { access_token: 'EAAG-access-token-0002' }],
    ['POST', '/deactivate'], ['POST', '/deactivate'], ['POST', '/activate'],
    ['DELETE', '']
  ] as const) t.match((await call(acme, method, config + path, body)).is, /^20/)
  const { is, body } = await call(acme, 'GET', versions)
  t.equal(is, '200')
  t.equal(body.next_cursor, null)
  const listed = Array.isArray(body.versions) ? body.versions : []
  t.strictSame(listed.map(({ version, changed, verified }) => [version, changed, verified]), [
    [5, ['deleted'], false],
    [4, ['is_active'], false],
    [3, ['is_active'], false],
    [2, ['access_token', 'token_expires_at'], true],
    [1, ['callback_url', 'verify_token'], true]
  ])
  for (const version of listed) {
    t.strictSame(Object.keys(version), ['version', 'changed_at', 'actor', 'changed', 'verified'])
    t.match(version, { changed_at: /^20\d\d-.*Z$/, actor: 'user-1' })
  }
})

await t.test('a version shows the state before its change, with masked secrets', async (t) => {
  const { is, body } = await call(acme, 'GET', `${versions}/1`)
  t.equal(is, '200')
  t.strictSame(Object.keys(body), [
    'version', 'changed_at', 'actor', 'changed', 'verified', 'tenant_id', 'user_id', 'waba_id', 'phone_number_id',
    'access_token', 'fb_app_id', 'fb_app_secret', 'callback_url', 'redirect_url', 'verify_token', 'token_expires_at',
    'refresh_token', 'is_active', 'onboarding_completed', 'onboarded_at', 'last_verified_at', 'created_at'
  ])
  t.match(body, {
    ...full,
    version: 1,
    changed: ['callback_url', 'verify_token'],
    verified: true,
    tenant_id: 'acme',
    user_id: 'user-1',
    access_token: '****0001',
    fb_app_secret: '****0002',
    verify_token: '****',
    refresh_token: '****0003',
    is_active: true,
    onboarding_completed: false,
    onboarded_at: null,
    last_verified_at: /Z$/
  })
  t.match((await call(acme, 'GET', `${versions}/5`)).body, {
    changed: ['deleted'], callback_url: null, verify_token: '****oken', access_token: '****0002', last_verified_at: null
  })
})

await t.test('a version with a secret that is not sealed is not shown', async (t) => {
  await sql("update tenant_config_versions set refresh_token = 'in clear' where version = 4")
  const { is, body } = await call(acme, 'GET', `${versions}/4`)
  t.equal(is, '500 SECRET_UNREADABLE')
  t.notMatch(JSON.stringify(body), 'in clear')
  t.equal((await call(acme, 'GET', `${versions}/3`)).is, '200')
})

await t.test('the pages have all versions once, for any limit, also while older ones are deleted', async (t) => {
  t.strictSame(await pages(acme, 2), [[5, 4], [3, 2], [1]])
  t.strictSame(await pages(acme, 5), [[5, 4, 3, 2, 1]])
  t.strictSame(await pages(acme, 4), [[5, 4, 3, 2], [1]])
  t.strictSame(await pages(acme, 200), [[5, 4, 3, 2, 1]])
  const { body: { next_cursor: next } } = await call(acme, 'GET', `${versions}?limit=2`)
  await sql('delete from tenant_config_versions where version in (1, 4)')
  t.match((await call(acme, 'GET', `${versions}?cursor=${String(next)}`)).body,
    { versions: [{ version: 3 }, { version: 2 }], next_cursor: null })
  await sql(`insert into tenant_config_versions
    (tenant_id, version, changed, is_active, onboarding_completed, created_at)
    select 'many', i, '{waba_id}', true, true, now() from generate_series(1, 60) i`)
  t.same((await pages(as('many'), 50)).map(({ length }) => length), [50, 10])
  t.match((await call(as('many'), 'GET', versions)).body, { versions: { length: 50 }, next_cursor: String })
})

await t.test('a hostile cursor, query or number is refused', async (t) => {
  const cursorOf = (text: string) => Buffer.from(text).toString('base64url')
  for (const cursor of [
    '', 'a', '!!!!', 'NA==', 'NB', ' NA', 'null', cursorOf(''), cursorOf('0'), cursorOf('-1'), cursorOf('1.5'),
    cursorOf('1e1'), cursorOf(' 1'), cursorOf('01'), cursorOf('0x1'), cursorOf('2147483648'), cursorOf('9'.repeat(400)),
    cursorOf('NaN'), cursorOf('Infinity'), cursorOf('1\0'), cursorOf('1 or true'), cursorOf('acme'), 'A'.repeat(8000)
  ]) {
    t.equal((await call(acme, 'GET', `${versions}?cursor=${encodeURIComponent(cursor)}`)).is, '400 INVALID_CURSOR',
      cursor.slice(0, 20))
  }
  const { body } = await call(acme, 'GET', `${versions}?cursor=${cursorOf('2147483647')}`)
  t.match(body, { versions: [{ version: 5 }] })
  for (const query of ['limit=0', 'limit=201', 'limit=1.5', 'limit=', 'cursor=NA&cursor=NA', 'tenant_id=many', 'x=1']) {
    t.equal((await call(acme, 'GET', `${versions}?${query}`)).is, '400 VALIDATION_FAILED', query)
  }
  for (const n of [
    '0', '-1', '01', '1.5', '1e3', '+1', 'Previous', 'previous%20', 'latest', '%00', '1%00', '%201',
    '9'.repeat(17), '9'.repeat(9000), "1'", 'null', 'NaN', '٣'
  ]) {
    t.equal((await call(acme, 'GET', `${versions}/${n}`)).is, '400 VALIDATION_FAILED', n.slice(0, 20))
    t.equal((await call(acme, 'POST', `${versions}/${n}/restore`)).is, '400 VALIDATION_FAILED', n.slice(0, 20))
  }
  for (const n of ['6', '2147483647', '2147483648', '9'.repeat(16)]) {
    t.equal((await call(acme, 'GET', `${versions}/${n}`)).is, '404 VERSION_NOT_FOUND', n)
    t.equal((await call(acme, 'POST', `${versions}/${n}/restore`)).is, '404 VERSION_NOT_FOUND', n)
  }
  t.equal((await call(acme, 'GET', `${versions}/5?tenant_id=many`)).is, '400 VALIDATION_FAILED')
  t.equal((await call(acme, 'POST', `${versions}/5/restore`, { tenant_id: 'many' })).is, '400 VALIDATION_FAILED')
})

await t.test("another tenant's numbers, cursors and header give nothing", async (t) => {
  const stranger = as('stranger')
  const headers = { 'x-tenant-id': 'many', tenant_id: 'many', cookie: 'tenant_id=many' }
  const { body: { next_cursor: next } } = await call(as('many'), 'GET', `${versions}?limit=1`)
  for (const url of [versions, `${versions}?cursor=${String(next)}`]) {
    t.same((await call(stranger, 'GET', url, undefined, headers)).body, { versions: [], next_cursor: null })
  }
  for (const n of ['60', '1', 'previous']) {
    t.equal((await call(stranger, 'GET', `${versions}/${n}`, undefined, headers)).is, '404 VERSION_NOT_FOUND')
    t.equal((await call(stranger, 'POST', `${versions}/${n}/restore`, undefined, headers)).is, '404 VERSION_NOT_FOUND')
  }
  t.same(await sql("select from tenant_configs where tenant_id in ('stranger', 'many')"), [])
  for (const [who, is] of [[{}, '401 UNAUTHENTICATED'], [admin, '403 TENANT_CLAIM_INVALID']] as const) {
    t.equal((await call(who, 'GET', versions)).is, is)
    t.equal((await call(who, 'GET', `${versions}/0`)).is, is)
    t.equal((await call(who, 'POST', `${versions}/0/restore`, [])).is, is)
  }
  t.equal((await call({}, 'POST', `${configs}/restore`, {})).is, '401 UNAUTHENTICATED')
  t.equal((await call(as('many'), 'POST', `${configs}/restore`, {})).is, '403 FORBIDDEN')
})
