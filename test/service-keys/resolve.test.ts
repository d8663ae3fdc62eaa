import t from '../run/tap.js'
import { config, full, resolve, type Who } from '../routes/client.js'
import { verifyStored } from '../fixtures/verified-rows.js'
import { makeUnreachable, until } from '../helper.js'
import { keysClient } from './keys-client.js'

const values = {
  phone_id: full.phone_number_id,
  access_token: full.access_token,
  waba_id: full.waba_id,
  fb_app_id: full.fb_app_id,
  fb_app_secret: full.fb_app_secret,
  callback_url: full.callback_url,
  redirect_url: full.redirect_url,
  verify_token: full.verify_token,
  token_expires_at: full.token_expires_at
}
const fromDatabase = Object.fromEntries(Object.keys(values).map((key) => [key, 'database']))
const acme = { tenant_id: 'acme', values, sources: fromDatabase, is_stale: false }
/** Moves the sealed secret of another column, which then does not open. */
const unreadable = (column: string, tenantId: string) =>
  `update tenant_configs set ${column} = refresh_token where tenant_id = '${tenantId}'`

await t.test('a configuration is found by its tenant, its number and its account', async (t) => {
  const { app, as, call, createKey, read } = await keysClient(t)
  const { header } = await createKey()
  await call(as('acme'), 'POST', config, full)
  await call(as('shop'), 'POST', config, { ...full, phone_number_id: 'phone-2' })
  for (const id of ['acme', 'shop']) await verifyStored(app, id)
  t.strictSame((await read(header, 'tenant_id=acme')).body, acme)
  t.strictSame((await read(header, 'phone_number_id=phone-1')).body, acme)
  const shop = { ...acme, tenant_id: 'shop', values: { ...values, phone_id: 'phone-2' } }
  t.strictSame((await read(header, 'waba_id=waba-1')).body, { configs: [acme, shop] })

  t.equal((await read(header, 'phone_number_id=nobody')).is, '404 CONFIG_NOT_FOUND')
  t.strictSame((await read(header, 'waba_id=nobody')).body, { configs: [] })
  await call(as('shop'), 'POST', `${config}/deactivate`)
  t.equal((await read(header, 'phone_number_id=phone-2')).is, '404 CONFIG_NOT_FOUND')
  t.strictSame((await read(header, 'waba_id=waba-1')).body, { configs: [acme] })
  await call(as('acme'), 'PUT', config, { access_token: 'EAAG-another-token' })
  t.match((await read(header, 'tenant_id=acme')).body, { values: { access_token: 'EAAG-another-token' } })
})

await t.test('exactly one parameter is accepted, and only well-formed ones', async (t) => {
  const { createKey, read } = await keysClient(t)
  const { header } = await createKey()
  for (const query of [
    '', 'tenant_id=a&phone_number_id=b', 'tenant_id=a&waba_id=b', 'phone_number_id=a&waba_id=b',
    'tenant_id=a&tenant_id=b', 'tenant_id=a&x=1', 'tenant=a', 'tenant_id=', 'phone_number_id=', 'waba_id=',
    'tenant_id=%00', `tenant_id=${'x'.repeat(101)}`, `waba_id=${'x'.repeat(256)}`, 'tenant_id=%ff', 'tenant_id=%zz',
    'tenant_id[]=a', 'TENANT_ID=a'
  ]) t.equal((await read(header, query)).is, '400 VALIDATION_FAILED', query)
})

await t.test('the tag changes with the answer, shows nothing of it, and spares its repetition', async (t) => {
  const settings = { CALLBACK_URL: 'https://one.example/' }
  const { app, as, call, createKey, databaseUrl, read } = await keysClient(t, settings)
  const { header } = await createKey()
  await call(as('acme'), 'POST', config, full)
  await verifyStored(app, 'acme')
  for (const query of ['tenant_id=acme', 'phone_number_id=phone-1', 'waba_id=waba-1', 'tenant_id=nobody']) {
    const { headers: { etag = '' }, body } = await read(header, query)
    t.match(etag, /^"[\w-]{22}"$/)
    for (const known of [etag, `W/${etag}`, '*', `"x", ${etag}`]) {
      const { is, body, headers } = await read(header, query, { 'if-none-match': known })
      t.strictSame([is, body, headers.etag, headers['content-type']], ['304', {}, etag, undefined], known)
    }
    for (const unknown of ['"x"', etag.toUpperCase(), '']) {
      t.strictSame((await read(header, query, { 'if-none-match': unknown })).body, body, unknown)
    }
    t.equal((await read(header, query, { 'if-none-match': 'x' })).is, '400 VALIDATION_FAILED')
  }
  const tagOf = async (tenantId: string) => (await read(header, `tenant_id=${tenantId}`)).headers.etag
  const before = [await tagOf('acme'), await tagOf('nobody')]
  t.equal(new Set(before).size, 2)
  await call(as('acme'), 'PUT', config, { verify_token: 'another' })
  t.not(await tagOf('acme'), before[0])
  await call(as('acme'), 'PUT', config, { verify_token: full.verify_token })
  t.strictSame([await tagOf('acme'), await tagOf('nobody')], before, 'the same answer has the same tag')

  const same = { DATABASE_URL: databaseUrl }
  const tags = async (env: object) => {
    const { createKey, read } = await keysClient(t, { ...same, ...env })
    const { header } = await createKey()
    return [(await read(header, 'tenant_id=acme')).headers.etag, (await read(header, 'tenant_id=nobody')).headers.etag]
  }
  t.strictSame(await tags(settings), before, 'other instances give the same tag')
  const others = await tags({ CALLBACK_URL: 'https://two.example/' })
  t.strictSame(others.map((tag, i) => tag === before[i]), [true, false], 'of what serves from .env, too')
})

await t.test('what serves from .env is named', async (t) => {
  const { as, call, createKey, read } = await keysClient(t, {
    WHATSAPP_PHONE_ID: '1',
    WHATSAPP_TOKEN: 'platform-token',
    VERIFY_TOKEN: 'platform-verify',
    FB_APP_ID: '3',
    FB_APP_SECRET: 'platform-secret'
  })
  const { header } = await createKey()
  await call(as('acme'), 'POST', config, { access_token: 'own', verify_token: 'mine' })
  const ofAcme = await read(header, 'tenant_id=acme')
  t.match(ofAcme.body, {
    tenant_id: 'acme',
    values: { access_token: 'own', phone_id: null, verify_token: 'mine', fb_app_secret: 'platform-secret' },
    sources: { access_token: 'database', phone_id: null, verify_token: 'database', fb_app_secret: 'env' }
  })
  for (const id of ['nobody', 'nobody-else']) {
    t.match((await read(header, `tenant_id=${id}`)).body, {
      tenant_id: null,
      values: { access_token: 'platform-token', phone_id: '1', verify_token: 'platform-verify', waba_id: null },
      sources: { access_token: 'env', phone_id: 'env', verify_token: 'env', waba_id: null }
    })
  }
})

await t.test('what the loader refuses has its code', async (t) => {
  const { app, as, call, createKey, read, sql } = await keysClient(t, {
    CONFIG_FALLBACK: 'none', CONFIG_REFUSE_DEAD_TOKENS: true
  })
  const { header } = await createKey()
  t.equal((await read(header, 'tenant_id=acme')).is, '404 CONFIG_NOT_FOUND')
  await call(as('acme'), 'POST', config, { ...full, token_expires_at: '2020-01-01T00:00:00Z' })
  t.equal((await read(header, 'tenant_id=acme')).is, '409 TOKEN_DEAD')
  await call(as('acme'), 'POST', `${config}/deactivate`)
  t.equal((await read(header, 'tenant_id=acme')).is, '409 TENANT_INACTIVE')

  const restricted = await createKey({ tenants: ['one', 'two'] })
  const { refresh_token: _none, ...parts } = full
  for (const [i, id] of ['one', 'two', 'third'].entries()) {
    const own = { token_expires_at: null, refresh_token: 'r', phone_number_id: `p${i}` }
    await call(as(id), 'POST', config, { ...parts, ...own })
    await verifyStored(app, id)
  }
  await sql(unreadable('verify_token', 'one'))
  t.equal((await read(header, 'tenant_id=one')).is, '500 SECRET_UNREADABLE')
  t.equal((await read(restricted.header, 'phone_number_id=p0')).is, '500 SECRET_UNREADABLE', 'a tenant of the key')
  const ids = async (who = header) => {
    const { is, body } = await read(who, 'waba_id=waba-1')
    return [is, ...(Object(body).configs ?? []).map(({ tenant_id: id }: { tenant_id: string }) => id)]
  }
  t.strictSame(await ids(), ['200', 'third', 'two'], 'an account is served without it')
  // The loader learns a change of psql by a notification, which comes after the statement.
  await sql(unreadable('access_token', 'two'))
  await until(async () => (await ids()).join() === '200,third')
  await sql(unreadable('fb_app_secret', 'third'))
  await until(async () => (await ids())[0] === '500 SECRET_UNREADABLE')
  t.strictSame(await ids(restricted.header), ['500 SECRET_UNREADABLE'], 'none of the key\'s tenants')
  await sql(`${unreadable('access_token', 'one')}; ${unreadable('access_token', 'third')}`)
  for (const query of ['phone_number_id=p2', 'waba_id=waba-1', 'tenant_id=two']) {
    t.equal((await read(header, query)).is, '500 SECRET_UNREADABLE', query)
  }
  t.equal((await read(restricted.header, 'phone_number_id=p2')).is, '404 CONFIG_NOT_FOUND', 'the number of another one')
  await until(async () => (await ids(restricted.header)).join() === '200')
})

await t.test('a key for certain tenants learns nothing of the others', async (t) => {
  const { app, as, call, createKey, read } = await keysClient(t, { WHATSAPP_TOKEN: 'platform-token' })
  for (const [i, id] of ['acme', 'shop', 'third'].entries()) {
    await call(as(id), 'POST', config, { ...full, phone_number_id: `p${i}` })
    await verifyStored(app, id)
  }
  const { header } = await createKey({ tenants: ['acme', 'third', 'not-yet'] })
  t.equal((await read(header, 'tenant_id=acme')).is, '200')
  t.equal((await read(header, 'phone_number_id=p2')).is, '200')
  t.match((await read(header, 'tenant_id=not-yet')).body, { values: { access_token: 'platform-token' } })
  const { body } = await read(header, 'waba_id=waba-1')
  t.match(body, { configs: [{ tenant_id: 'acme' }, { tenant_id: 'third' }] })
  t.equal(Object(body).configs.length, 2)
  const answers = []
  for (const query of [
    'tenant_id=shop', 'tenant_id=nobody', 'phone_number_id=p1', 'phone_number_id=nobody', 'tenant_id=ACME',
    'tenant_id=acme%20', 'tenant_id=null'
  ]) {
    const { is, body, headers } = await read(header, query, { 'if-none-match': '*' })
    t.equal(is, '404 CONFIG_NOT_FOUND', query)
    const { date: _date, ...others } = headers
    answers.push(JSON.stringify([{ ...body, request_id: '' }, others]))
  }
  t.equal(new Set(answers).size, 1, 'all refusals are equal')
})

await t.test('only a service key reads, and only in the header', async (t) => {
  const { app, as, admin, call, createKey, read } = await keysClient(t)
  await call(as('acme'), 'POST', config, full)
  const { key } = await createKey()
  const scoped = { authorization: `Bearer ${app.auth.mint({ tenantId: 'acme', scope: 'credentials:read' }, 60)}` }
  for (const who of [as('acme'), admin, scoped]) {
    const { is, headers } = await read(who, 'tenant_id=acme')
    t.equal(is, '403 SCOPE_MISSING')
    t.equal(headers['www-authenticate'], 'Bearer error="insufficient_scope", scope="credentials:read"')
  }
  for (const query of [`access_token=${key}`, `key=${key}`, `tenant_id=acme&access_token=${key}`]) {
    t.equal((await read({}, query)).is, '401 UNAUTHENTICATED')
    const answer = await read((await createKey()).header, query)
    t.equal(answer.is, '400 VALIDATION_FAILED')
    t.notMatch(JSON.stringify(answer.body), key)
  }
  t.equal((await call({ cookie: `access_token=${key}`, 'x-api-key': key }, 'GET', `${resolve}?tenant_id=acme`)).is,
    '401 UNAUTHENTICATED')
})

await t.test('while the database is away, a key and a configuration that are cached serve as stale', async (t) => {
  const { as, call, createKey, databaseUrl, read } = await keysClient(t)
  await call(as('acme'), 'POST', config, full)
  const [used, unused] = [await createKey(), await createKey()]
  const fresh = await read(used.header, 'tenant_id=acme')
  t.strictSame(fresh.body, acme)
  const restore = await makeUnreachable(databaseUrl)
  const isStale = async (who: Who) => (await read(who, 'tenant_id=acme')).body['is_stale']
  await until(async () => await isStale(used.header) === true)
  const stale = await read(used.header, 'tenant_id=acme')
  t.strictSame(stale.body, { ...acme, is_stale: true })
  t.not(stale.headers.etag, fresh.headers.etag)
  t.equal((await read(used.header, 'tenant_id=other')).is, '503 DATABASE_UNAVAILABLE')
  t.equal((await read(unused.header, 'tenant_id=acme')).is, '503 DATABASE_UNAVAILABLE', 'a key that was never used')
  t.equal((await read({ authorization: `${used.header['authorization']?.slice(0, -1)}_` }, 'tenant_id=acme')).is,
    '401 UNAUTHENTICATED', 'a known id with another secret')
  await restore()
  for (const { header } of [used, unused]) await until(async () => await isStale(header) === false)
})
