import { spawn } from 'node:child_process'
import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { symlinkSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { verifyStored } from '../fixtures/verified-rows.js'
import { textOf as bodyOf } from '../graph/body.js'
import { startGraph } from '../graph/server.js'
import type { App } from '../graph/state.js'
import { baseEnv, buildTestApp, childEnv, query, takeAway, until } from '../helper.js'
import { blocksOf, textOf } from './markdown.js'

const [example, ...more] = blocksOf(textOf('docs/TENANT_CONFIG_GUIDE.md')).filter(
  ({ language, text }) => language === 'js' && text.includes('createConfigLoader')
)
t.match(
  [example?.text, more],
  [/forTenant.*forPhoneNumber|forPhoneNumber.*forTenant/s, []],
  'the guide has one example'
)

const graph = await startGraph()
t.teardown(graph.close)
const platform = graph.state.addApp()
const theirs = graph.state.addApp({ require_proof: true })

/** An account at Meta with one number, as columns of a tenant's configuration. */
function account (app: App, phone: string) {
  const { id } = graph.state.addWaba({ app_ids: [app.app_id], phones: [{ id: phone, registered: true }] })
  return {
    waba_id: id,
    phone_number_id: phone,
    access_token: graph.state.issueToken({ app_id: app.app_id, waba_ids: [id] })
  }
}

/** The messages that Meta was asked to send since the last call. */
const sent = () => graph.requests.splice(0).map(({ path, headers, query, form }) => (
  {
    from: path,
    token: headers.authorization,
    proof: query['appsecret_proof'],
    to: form['to'],
    text: JSON.parse(form['text'] ?? '').body
  }))
const message = (tenant: ReturnType<typeof account>, app: App, to: string, text: string) => ({
  from: `/v26.0/${tenant.phone_number_id}/messages`,
  token: `Bearer ${tenant.access_token}`,
  proof: createHmac('sha256', app.app_secret).update(tenant.access_token).digest('hex'),
  to,
  text
})

/**
 * The service with two tenants, one of them with its own app, and the example in a second process. `patience` is the
 * timeout of the example for Meta.
 */
async function start (t: Test, { own = {}, patience = '10_000' } = {}) {
  const settings = {
    FB_APP_ID: platform.app_id,
    FB_APP_SECRET: platform.app_secret,
    GRAPH_API_BASE_URL: graph.url,
    CONFIG_FALLBACK: 'none',
    ...own
  }
  const { app, databaseUrl } = await buildTestApp(t, settings)
  const [acme, shop] = [account(platform, '101'), account(theirs, '202')]
  await app.tenantConfigs.create('acme', null, acme)
  await app.tenantConfigs.create('shop', null, { ...shop, fb_app_id: theirs.app_id, fb_app_secret: theirs.app_secret })
  for (const tenant of ['acme', 'shop']) t.equal(await verifyStored(app, tenant), 'saved')

  const dir = t.testdir({ node_modules: {} })
  symlinkSync(resolve('node_modules/@kapso'), join(dir, 'node_modules/@kapso'))
  symlinkSync(resolve('.'), join(dir, 'node_modules/whatsapp-tenant-config'))
  const parts = example?.text.split('10_000') ?? []
  t.equal(parts.length, 2, 'it says once how long it waits')
  writeFileSync(join(dir, 'example.mjs'), parts.join(patience))
  // The build may be older than the sources whose coverage is measured.
  const env = childEnv({
    ...settings,
    DATABASE_URL: databaseUrl,
    ENCRYPTION_KEYS: baseEnv.ENCRYPTION_KEYS,
    LOG_LEVEL: 'silent',
    _TAPJS_PROCESSINFO_COVERAGE_: '0'
  })
  const child = spawn(process.execPath, ['example.mjs'], { cwd: dir, env })
  t.teardown(() => { child.kill('SIGKILL') })
  const said: string[] = []
  for (const stream of [
    child.stdout, child.stderr
  ]) stream.on('data', (data) => { said.push(...String(data).trimEnd().split('\n')) })
  const closed = once(child, 'close')
  const write = (line: string) => { child.stdin.write(`${line}\n`) }
  const post = (job: object) => { write(JSON.stringify(job)) }
  return {
    app,
    databaseUrl,
    acme,
    shop,
    write,
    post,
    send: (tenant: string, text: string) => post({ tenant, to: '16505551234', text }),
    /** The next output of the worker, once it has reported the outcome of so many messages. */
    async says (messages: number) {
      await until(
        () => said.filter((line) => /: sent from |^Failed: |^Passed over: /.test(line)).length >= messages ||
          child.exitCode !== null
      )
      return said.splice(0)
    },
    async end () {
      child.stdin.end()
      const [code] = await closed
      return code
    }
  }
}

/** Lets the stand-in deliver a webhook with a message to each number, signed by an app, to the worker. */
async function deliver (t: Test, post: (job: object) => void, app: App, ...phones: string[]) {
  const server = createServer(async (req, res) => {
    post({ webhook: await bodyOf(req), signature: req.headers['x-hub-signature-256'] })
    res.end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  const address = server.address()
  const change = (phone: string) => ({
    field: 'messages',
    value: {
      messaging_product: 'whatsapp',
      metadata: { display_phone_number: '16315555555', phone_number_id: phone },
      contacts: [{ profile: { name: 'Zoë' }, wa_id: '16505559999' }],
      messages: [
        { from: '16505559999', id: 'wamid.HBgL1', timestamp: '1795450736', type: 'text', text: { body: 'Grüße' } }
      ]
    }
  })
  const status = {
    field: 'messages',
    value: {
      messaging_product: 'whatsapp',
      metadata: { phone_number_id: phones[0] },
      statuses: [{ id: 'wamid.HBgL0', status: 'read' }]
    }
  }
  const update = { field: 'account_update', value: { event: 'VERIFIED_ACCOUNT' } }
  const body = {
    object: 'whatsapp_business_account',
    entry: [{ id: '1', changes: [update, status] }, { id: '2', changes: phones.map(change) }]
  }
  t.match(
    await graph.deliver(app.app_id, body, { url: `http://127.0.0.1:${typeof address === 'object' && address?.port}` }),
    { statuses: [200] }
  )
}

await t.test('each message is sent with the token and the number of its own tenant', async (t) => {
  const { app, databaseUrl, acme, shop, post, send, says, end } = await start(t)
  for (let i = 0; i < 3; i++) for (const tenant of ['acme', 'shop']) send(tenant, `${tenant} ${i}`)
  const said = await says(6)
  t.strictSame(said, [1, 2, 3].flatMap(() => ['acme: sent from 101', 'shop: sent from 202']))
  t.strictSame(
    sent(),
    [0, 1, 2].flatMap((i) => [
      message(acme, platform, '16505551234', `acme ${i}`),
      message(shop, theirs, '16505551234', `shop ${i}`)
    ])
  )

  const thanks = 'Thank you, we will be with you soon.'
  await deliver(t, post, platform, '101')
  t.strictSame(await says(1), ['acme: sent from 101'])
  const unsigned = 'Passed over: not signed by the app of a tenant with this number'
  await deliver(t, post, theirs, '303', '101', '202')
  t.strictSame(
    await says(3),
    [unsigned, unsigned, 'shop: sent from 202'],
    'a number nobody has is passed over, as is one of another app'
  )
  t.strictSame(sent(), [message(acme, platform, '16505559999', thanks), message(shop, theirs, '16505559999', thanks)])
  await deliver(t, post, platform, '202')
  t.strictSame(await says(1), [unsigned])
  t.strictSame(sent(), [])

  // Without its own app the squatter falls back to the platform's, whose signature is valid.
  await app.tenantConfigs.create('squatter', null, { ...acme, phone_number_id: '303' })
  await deliver(t, post, platform, '303')
  t.strictSame(await says(1), [unsigned], 'a number that a tenant only claims is passed over')
  t.strictSame(sent(), [])

  t.equal(await end(), 0, 'it ends by itself')
  // Only the service still has a listener.
  const left = 'select application_name from pg_stat_activity where datname = current_database() and pid <> ' +
    "pg_backend_pid() and application_name like '%listen'"
  await until(async () => (await query(databaseUrl, left)).length === 1)
})

await t.test('a message that cannot be sent is reported with its reason', async (t) => {
  const { app, databaseUrl, acme, post, send, says, end } = await start(t)
  await app.tenantConfigs.create('bare', null, { waba_id: '1' })
  await app.tenantConfigs.create('old', null, {
    phone_number_id: '303',
    access_token: acme.access_token,
    token_expires_at: '2020-01-01T00:00:00Z'
  })
  await app.tenantConfigs.create('off', null, { waba_id: '4', phone_number_id: '404', access_token: acme.access_token })
  await verifyStored(app, 'off')
  await app.tenantConfigs.setActive('off', false)
  await app.tenantConfigs.create('moved', null, { phone_number_id: '505', access_token: acme.access_token })
  await query(
    databaseUrl,
    "update tenant_configs set access_token = (select access_token from tenant_configs where tenant_id = 'acme') " +
      "where tenant_id = 'moved'"
  )
  await app.tenantConfigs.create('revoked', null, { phone_number_id: '606', access_token: 'not-a-token-of-meta' })
  for (const [tenant, why] of [
    ['bare', 'there is no token or no phone number: onboard the tenant'],
    ['old', 'the token has expired: onboard the tenant again'],
    ['off', 'TENANT_INACTIVE'],
    ['nobody', 'CONFIG_NOT_FOUND'],
    ['moved', 'SECRET_UNREADABLE']
  ] as const) {
    send(tenant, 'Hello')
    t.strictSame(await says(1), [`Failed: ${why}`], tenant)
  }
  await deliver(t, post, platform, '404')
  t.match(await says(1), [/^Passed over: /], 'the one who is turned off')
  t.strictSame(sent(), [], 'Meta is not asked')

  send('revoked', 'Hello')
  t.strictSame(await says(1), ['Failed: 190'])
  send('acme', 'Hello')
  t.strictSame(await says(1), ['acme: sent from 101'])
  t.equal(await end(), 0)
  graph.requests.length = 0
})

await t.test('a change of a token takes effect; without the database the last known values serve', async (t) => {
  const { app, databaseUrl, acme, send, says, end } = await start(t)
  /** Sends until the worker reports this line; returns the last sent message. */
  async function untilSays (tenant: string, line: string) {
    await until(async () => {
      send(tenant, 'Hello')
      return (await says(1)).includes(line)
    })
    return sent().at(-1)
  }
  t.match(await untilSays('acme', 'acme: sent from 101'), { token: `Bearer ${acme.access_token}` })

  const renewed = graph.state.issueToken({ app_id: platform.app_id, waba_ids: [acme.waba_id] })
  await app.tenantConfigs.update('acme', { access_token: renewed })
  await until(async () => (await untilSays('acme', 'acme: sent from 101'))?.token === `Bearer ${renewed}`)

  const giveBack = await takeAway(databaseUrl)
  t.match(await untilSays('acme', 'The database is away, this is what it said last.'), { token: `Bearer ${renewed}` })
  t.strictSame(
    await untilSays('shop', 'Failed: DATABASE_UNAVAILABLE'),
    undefined,
    'what was never asked for is not known'
  )
  await giveBack()
  await untilSays('shop', 'shop: sent from 202')
  t.equal(await end(), 0)
})

await t.test('no message is sent from the number of the platform', async (t) => {
  const own = account(platform, '701')
  const { app, send, says, end } = await start(
    t,
    {
      own: {
        CONFIG_FALLBACK: '',
        WHATSAPP_PHONE_ID: own.phone_number_id,
        WHATSAPP_WABA_ID: own.waba_id,
        WHATSAPP_TOKEN: own.access_token
      }
    }
  )
  await app.tenantConfigs.create('off', null, account(platform, '702'))
  await app.tenantConfigs.setActive('off', false)
  for (const tenant of ['acne', 'off']) {
    t.match((await app.configLoader.forTenant(tenant)).getPhoneId(), '701', 'which the loader falls back to')
    send(tenant, 'Hello')
    t.strictSame(await says(1), ['Failed: the tenant has no configuration, or is turned off'], tenant)
  }
  t.strictSame(sent(), [])
  t.equal(await end(), 0)
})

await t.test('an invalid line fails alone, and its content is not repeated', async (t) => {
  const { write, post, send, says, end } = await start(t)
  write('{"tenant":"acme","text":"a secret')
  post({ webhook: 'a secret' })
  t.strictSame(await says(2), ['Failed: the line is no job', 'Failed: the line is no job'])
  for (const job of ['null', '""', '{}', '{"webhook":"null"}', '{"webhook":"{\\"entry\\":\\"a secret\\"}"}']) {
    write(job)
    const [said, ...more] = await says(1)
    t.match([said, more], [/^Failed: /, []], job)
    t.notMatch(said, 'a secret')
  }
  send('acme', 'Hello')
  t.strictSame(await says(1), ['acme: sent from 101'])
  t.equal(await end(), 0)
  graph.requests.length = 0
})

await t.test('a call to Meta times out, with and without an app secret', async (t) => {
  const { send, says, end } = await start(t, {
    own: { FB_APP_ID: '', FB_APP_SECRET: '', GRAPH_API_VERSION: 'v25.0' },
    patience: '1000'
  })
  graph.fail('messages', { latency_ms: 600_000, times: 2 })
  for (const tenant of ['acme', 'shop', 'acme', 'shop']) send(tenant, 'Hello')
  t.strictSame(await says(4), [
    'Failed: TimeoutError', 'Failed: TimeoutError', 'acme: sent from 101', 'shop: sent from 202'
  ])
  t.match(
    sent(),
    [
      ['101', undefined], ['202', String], ['101', undefined], ['202', String]
    ].map(([phone, proof]) => ({ from: `/v25.0/${phone}/messages`, proof }))
  )
  t.equal(await end(), 0)
})
