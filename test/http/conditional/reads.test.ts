import { request } from 'node:http'
import t from '../../run/tap.js'
import { client, config, full, type Who } from '../../routes/client.js'

const fullConfig = `${config}/full`
const service = await client(t)
const { app, as, call, sql } = service
const origin = await app.listen({ port: 0, host: '127.0.0.1' })

/** Sends a GET as it is, over a connection: Node joins repeated headers. */
async function get (path: string, who: Who, header: string | string[]) {
  const sent = [['host', 'any'], ...Object.entries(who), ...[header].flat().map((value) => ['if-none-match', value])]
  return await new Promise<{ status: number | undefined, headers: NodeJS.Dict<string | string[]>, body: string }>(
    (resolve, reject) => {
      request(`${origin}${path}`, { headers: sent.flat(), agent: false }, (answer) => {
        let body = ''
        answer.setEncoding('utf8').on('data', (text) => { body += text })
          .on('end', () => { resolve({ status: answer.statusCode, headers: answer.headers, body }) })
      }).on('error', reject).end()
    })
}

/** Creates a configuration, and returns its entity tag. */
async function create (tenantId: string): Promise<{ who: Who, etag: string }> {
  const who = as(tenantId)
  return { who, etag: String((await call(who, 'POST', config, full)).headers.etag) }
}

const etagOf = async (who: Who, url = config) => (await call(who, 'GET', url)).headers.etag

await t.test('each write of the row gives it another entity tag, and a read none', async (t) => {
  const { who, etag } = await create('versions')
  const seen = new Set([etag])
  for (const url of [config, fullConfig]) {
    t.equal(await etagOf(who, url), etag)
    t.equal((await call(who, 'HEAD', url)).headers.etag, etag)
  }
  for (const [method, url, body] of [
    ['PUT', config, { callback_url: null }], ['PUT', config, { callback_url: null }],
    ['PUT', config, { access_token: 'another' }], ['PUT', config, { access_token: 'another' }],
    ['POST', `${config}/deactivate`], ['POST', `${config}/activate`], ['POST', `${config}/activate`]
  ] as const) {
    const { headers } = await call(who, method, url, body)
    t.equal(await etagOf(who), headers.etag, 'the answer of a write has the tag of what it wrote')
    seen.add(String(headers.etag))
  }
  await sql("update tenant_configs set waba_id = waba_id where tenant_id = 'versions'")
  seen.add(String(await etagOf(who)))
  await call(who, 'DELETE', config)
  seen.add((await create('versions')).etag)
  t.equal(seen.size, 10)
})

await t.test('two rows that one transaction wrote have different entity tags', async (t) => {
  await create('twin-1')
  await create('twin-2')
  await sql("update tenant_configs set waba_id = 'both' where tenant_id like 'twin-%'")
  t.not(await etagOf(as('twin-1')), await etagOf(as('twin-2')))
})

await t.test('no vacuum changes an entity tag', async (t) => {
  const { who, etag } = await create('vacuumed')
  for (const options of ['freeze', 'full']) {
    await sql(`vacuum (${options}) tenant_configs`)
    t.equal(await etagOf(who), etag, options)
  }
})

await t.test('a read of a version that the client has is a 304 without a body', async (t) => {
  const { who, etag } = await create('known')
  for (const url of [config, fullConfig]) {
    for (const header of [
      etag, '*', `W/${etag}`, `"x", ${etag}`, `"x",W/"y"  ,\t${etag}`, `,, ${etag},,`, `${etag} `, [etag, '"x"'],
      ['"x"', `W/${etag}`], `"a,b", ${etag}`, `"\u00ff", ${etag}`
    ]) {
      const { status, headers, body } = await get(url, who, header)
      t.strictSame([status, body, headers.etag, headers['cache-control']], [304, '', etag, 'no-store'], String(header))
      t.notOk('content-type' in headers || 'content-length' in headers)
    }
    const head = await call(who, 'HEAD', url, undefined, { 'if-none-match': etag })
    t.strictSame([head.is, head.headers.etag], ['304', etag])
  }
})

await t.test('any other entity tag gets the configuration', async (t) => {
  const { who, etag } = await create('unknown')
  const other = await create('other-tenant')
  const [id, version] = etag.slice(1, -1).split('-')
  for (const header of [
    '""', '"x"', other.etag, `"${id}"`, `"${version}"`, `"${id}-${Number(version) - 1}"`, `"0${id}-${version}"`,
    `"${version}-${id}"`, '"*"', '', ',', `"${etag.slice(1, -1)},x"`, '"x", "y"', ['"x"', '""']
  ]) {
    const { status, headers, body } = await get(config, who, header)
    t.strictSame([status, headers.etag, JSON.parse(body).tenant_id], [200, etag, 'unknown'], String(header))
  }
  t.equal((await call(who, 'GET', config, undefined, { 'if-match': '"x"' })).is, '200', 'a read has no If-Match')
  t.equal((await call(as('nobody'), 'GET', config, undefined, { 'if-none-match': '*' })).is, '404 CONFIG_NOT_FOUND')
})

await t.test('a malformed If-None-Match is refused', async (t) => {
  const { who, etag } = await create('malformed')
  for (const header of [
    etag.slice(1, -1), etag.slice(1), etag.slice(0, -1), `'${etag.slice(1, -1)}'`, `w/${etag}`, `W/ ${etag}`,
    `W${etag}`, `${etag} ${etag}`, `${etag}; ${etag}`, `*, ${etag}`, ['*', '*'], '**', `""${etag}`, '"a\tb"', '"a b"',
    `x, ${etag}`, `${etag}""`
  ]) {
    const { status, body } = await get(config, who, header)
    t.strictSame([status, JSON.parse(body).errors], [400, [{
      field: 'if-none-match', message: 'must be * or entity tags in double quotes, separated by commas'
    }]], String(header))
  }
})

await t.test('the longest headers are read at once', async (t) => {
  const { who } = await create('long')
  for (const [header, expected] of [
    [`"a",${' '.repeat(14_000)}x`, 400], [`${'"a", '.repeat(2_800)}x`, 400], [`${', '.repeat(7_000)}"`, 400],
    [`${'W/'.repeat(7_000)}"a"`, 400], [`"${'a'.repeat(14_000)}`, 400], [`${'""'.repeat(7_000)}`, 400],
    [`${'"a" \t,'.repeat(2_300)}"a"`, 200], [`"${'\u00e9,'.repeat(7_000)}"`, 200]
  ] as const) {
    const began = performance.now()
    const { status } = await get(config, who, header)
    t.equal(status, expected, header.slice(0, 20))
    t.ok(performance.now() - began < 1000)
  }
})

await t.test('a 304 of the full configuration opens no secret, and comes after the check of access', async (t) => {
  const { who } = await create('sealed')
  await sql("update tenant_configs set access_token = 'garbage' where tenant_id = 'sealed'")
  t.equal((await call(who, 'GET', fullConfig)).is, '500 SECRET_UNREADABLE')
  t.equal((await call(who, 'GET', fullConfig, undefined, { 'if-none-match': '*' })).is, '304')

  const { databaseUrl } = service
  const known = { 'if-none-match': '*' }
  for (const [access, is] of [['scope', '403 SCOPE_MISSING'], ['off', '403 REVEAL_DISABLED']] as const) {
    const closed = await client(t, { DATABASE_URL: databaseUrl, FULL_CONFIG_ACCESS: access })
    const { headers, ...answer } = await closed.call(closed.as('sealed'), 'GET', fullConfig, undefined, known)
    t.strictSame([answer.is, headers.etag], [is, undefined])
    t.equal((await closed.call(closed.as('sealed'), 'GET', config, undefined, known)).is, '304')
  }
  t.equal((await call({}, 'GET', fullConfig, undefined, known)).is, '401 UNAUTHENTICATED')
})
