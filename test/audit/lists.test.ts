import t from '../run/tap.js'
import { base, config, type Who } from '../routes/client.js'
import { auditService, entry } from './audit-service.js'

const { app, admin, as, call, sql, recordsOf } = await auditService(t)
const auditor = { authorization: `Bearer ${app.auth.mint({ auditor: true, userId: 'auditor-1' }, 60)}` }
const own = `${config}/audit`
const all = `${base}/admin/audit`

type Row = Record<string, unknown>

/** The records of all pages, as `tenant seq`. */
async function walk (who: Who, url: string, query = ''): Promise<string[]> {
  const found: string[] = []
  for (let cursor = ''; ;) {
    const { is, body: { records, next_cursor: next } } = await call(who, 'GET', `${url}?${query}${cursor}`)
    if (is !== '200' || !Array.isArray(records)) return [is]
    found.push(...records.map(({ tenant_id: id, seq }: Row) => `${id} ${seq}`))
    if (typeof next !== 'string') return next === null ? found : ['no next_cursor']
    cursor = `&cursor=${next}`
  }
}

const { record } = app.audit
for (const n of [1, 2, 3, 4, 5]) {
  await record(entry('acme', { actor: `user-${n % 2}`, action: n === 3 ? 'config.read_full' : 'config.update' }))
  await record(entry('a%', { outcome: n === 2 ? 'denied' : 'ok', code: n === 2 ? 'FORBIDDEN' : null }))
}
await record(entry('acme', { role: 'admin', actor: 'admin-1', action: 'config.deactivate', fields: [] }))
await record(entry('acme', { role: 'service_key', actor: 'key-1', outcome: 'failed', code: 'INTERNAL', fields: [] }))
await record(entry('acme', { role: 'system', actor: null, address: null, request_id: null, action: 'token.extend' }))
await record(entry('müller & söhne 😀'))

await t.test('a tenant reads its own records, the newest first, for any page size', async (t) => {
  const seqs = [8, 7, 6, 5, 4, 3, 2, 1].map((seq) => `acme ${seq}`)
  for (const limit of [1, 2, 3, 7, 8, 200]) t.strictSame(await walk(as('acme'), own, `limit=${limit}`), seqs)
  t.strictSame(await walk(as('acme'), own), seqs)
  t.strictSame(await walk(as('müller & söhne 😀'), own), ['müller & söhne 😀 1'])
  t.strictSame(await walk(as('nobody'), own), [])
  const { body } = await call(as('acme'), 'GET', `${own}?limit=3`)
  const common = { tenant_id: 'acme', address: null, actor: null }
  t.match(body['records'], [
    { ...common, seq: 8, role: 'system', action: 'token.extend', request_id: null },
    { ...common, seq: 7, role: 'service_key', outcome: 'failed', code: 'INTERNAL', request_id: 'request-1' },
    { ...common, seq: 6, role: 'admin', action: 'config.deactivate', fields: [] }
  ])
  const [row]: Row[] = Object((await call(as('acme'), 'GET', `${own}?limit=4`)).body['records']).slice(3)
  const [{ seq, at, ...rest } = {}] = row === undefined ? [] : [row]
  t.strictSame([seq, rest], [5, { ...entry('acme'), count: 1, actor: 'user-1', tenant_id: 'acme' }])
  t.match(at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/)
})

await t.test('an auditor and an admin read the records of all, by any filter', async (t) => {
  const stored = await sql(
    'select tenant_id, seq::int, actor, action, outcome from audit_log order by at desc, tenant_id desc, seq desc'
  )
  const expected = (matches: (row: Row) => boolean) =>
    stored.filter(matches).map(({ tenant_id: id, seq }) => `${id} ${seq}`)
  const isUnread = ({ action }: Row) => action !== 'audit.read'
  for (const [query, matches] of [
    ['tenant_id=acme', ({ tenant_id: id }) => id === 'acme'],
    ['tenant_id=a%25', ({ tenant_id: id }) => id === 'a%'],
    ['tenant_id=a', () => false],
    ['actor=user-0', ({ actor }) => actor === 'user-0'],
    ['actor=user-0&tenant_id=acme', ({ actor, tenant_id: id }) => actor === 'user-0' && id === 'acme'],
    ['action=config.read_full', ({ action }) => action === 'config.read_full'],
    ['outcome=denied', ({ outcome }) => outcome === 'denied'],
    ['outcome=ok&action=config.update', ({ outcome, action }) => outcome === 'ok' && action === 'config.update'],
    ['from=2020-01-01T00:00:00Z&to=9999-12-31T23:59:59Z&action=token.extend', ({ action }) =>
      action === 'token.extend'],
    ['from=9999-01-01T00:00:00-15:59', () => false],
    ['to=0001-01-01T00:00:00Z&tenant_id=acme', () => false]
  ] as Array<[string, (row: Row) => boolean]>) {
    for (const who of [auditor, admin]) {
      for (const limit of [2, 200]) {
        t.strictSame(await walk(who, all, `limit=${limit}&${query}`), expected(matches), `${query}, ${limit} a page`)
      }
    }
  }
  // A time of one of the records: it is in the first range and not in the second.
  const { body: { records } } = await call(auditor, 'GET', `${all}?tenant_id=acme&limit=3`)
  const { at }: Row = Object(records)[2]
  t.strictSame(await walk(auditor, all, `tenant_id=acme&from=${at}`), ['acme 8', 'acme 7', 'acme 6'])
  const before = [5, 4, 3, 2, 1].map((seq) => `acme ${seq}`)
  t.strictSame(await walk(auditor, all, `tenant_id=acme&to=${at}&limit=2`), before)
  const whole = await walk(auditor, all, 'limit=3')
  t.strictSame(whole.slice(-stored.length).filter((line) => !line.startsWith('null')), expected(isUnread))
  t.match(records, [{}, { actor: 'key-1', address: '203.0.113.7' }, { actor: 'admin-1' }])
})

await t.test('times that are equal are told apart by tenant and number', async (t) => {
  await sql(`insert into audit_log (tenant_id, seq, at, role, action, outcome, fields, count, hmac)
    select 'same-' || tenant, seq, '2001-01-01Z', 'system', 'token.extend', 'ok', '{}', 1, ''
    from generate_series(1, 3) tenant, generate_series(1, 3) seq`)
  const expected = [3, 2, 1].flatMap((tenant) => [3, 2, 1].map((seq) => `same-${tenant} ${seq}`))
  for (const limit of [1, 2, 4]) {
    t.strictSame(await walk(auditor, all, `limit=${limit}&to=2002-01-01T00:00:00Z`), expected)
  }
})

await t.test('hostile cursors and filters are refused, and cursors of others show nothing of theirs', async (t) => {
  const encode = (text: string) => Buffer.from(text).toString('base64url')
  const at = '2026-11-23T12:00:00.000000Z'
  for (const cursor of [
    '', 'x', '%00', encode('1'), encode(`0 ${at} acme`), encode(`-1 ${at} acme`), encode(`1e3 ${at} acme`),
    encode(`9007199254740993 ${at} acme`), encode('1 2026-02-30T12:00:00.000000Z acme'),
    encode('1 0000-01-01T00:00:00.000000Z x'), encode(`1 ${at} a\nb`), encode(`1 ${at} ${'x'.repeat(101)}`),
    `${encode(`1 ${at} acme`)}=`, encode(`1 ${at}`),
    `${encode(`1 ${at} acme`)}%20`, encode(`1 ${at} '; drop table audit_log; --\0`), 'x'.repeat(5000)
  ]) {
    for (const [who, url] of [[as('acme'), own], [auditor, all]] as const) {
      t.equal((await call(who, 'GET', `${url}?cursor=${cursor}`)).is, '400 INVALID_CURSOR', cursor)
    }
  }
  for (const query of [
    'action=nonsense', 'outcome=OK', 'from=yesterday', 'to=2026-02-30T00:00:00Z', `actor=${'x'.repeat(256)}`, 'actor=',
    'actor=%00', 'tenant_id=', `tenant_id=${'x'.repeat(101)}`, 'limit=0', 'limit=201', 'limit=x', 'role=admin',
    'from=2026-01-01', 'tenant_id=a&tenant_id=b'
  ]) t.equal((await call(auditor, 'GET', `${all}?${query}`)).is, '400 VALIDATION_FAILED', query)
  for (const query of ['tenant_id=a%25', 'actor=user-1', 'limit=0']) {
    t.equal((await call(as('acme'), 'GET', `${own}?${query}`)).is, '400 VALIDATION_FAILED', query)
  }
  const { body } = await call(as('a%'), 'GET', `${own}?limit=1`)
  const after = [4, 3, 2, 1].map((seq) => `acme ${seq}`)
  t.strictSame(await walk(as('acme'), own, `cursor=${String(body['next_cursor'])}`), after)
  const foreign = (await call(auditor, 'GET', `${all}?limit=1&tenant_id=acme`)).body['next_cursor']
  t.strictSame(await walk(as('nobody'), own, `cursor=${String(foreign)}`), [])
})

await t.test('the auditor role opens the audit log and nothing else', async (t) => {
  const withTenant = app.auth.mint({ auditor: true, tenantId: 'acme' }, 60)
  for (const who of [auditor, { authorization: `Bearer ${withTenant}` }]) {
    for (const [method, url] of [
      ['GET', config], ['GET', `${config}/full`], ['PUT', config], ['DELETE', config], ['GET', own],
      ['GET', `${base}/admin/configs/all`], ['DELETE', `${base}/admin/configs/delete-all`],
      ['GET', `${base}/admin/events`], ['GET', `${base}/admin/configs/stats`], ['POST', all], ['DELETE', all],
      ['GET', `${base}/admin/nowhere`], ['POST', `${base}/onboard/whatsapp-client`]
    ] as const) t.equal((await call(who, method, url)).is, '403 FORBIDDEN', `${method} ${url}`)
    t.equal((await call(who, 'GET', all)).is, '200')
    t.equal((await call(who, 'HEAD', all)).is, '200')
  }
  t.equal((await call(as('globex'), 'GET', all)).is, '403 FORBIDDEN')
  t.equal((await call({}, 'GET', all)).is, '401 UNAUTHENTICATED')
  const both = { authorization: `Bearer ${app.auth.mint({ auditor: true, admin: true, tenantId: 'acme' }, 60)}` }
  t.equal((await call(both, 'GET', `${base}/admin/configs/all`)).is, '200', 'an admin may have both roles')
  t.equal((await call(both, 'GET', own)).is, '200')
  t.equal((await recordsOf('acme')).length, 8, 'what an auditor is denied is none of the tenant that its token names')
})
