import t from '../run/tap.js'
import { verifyStored } from '../fixtures/verified-rows.js'
import { query, makeUnreachable, until } from '../helper.js'
import { examples, exampleWorker } from './example-worker.js'

t.match(
  [examples[0]?.text, examples.slice(1)],
  [/forTenant.*forPhoneNumber|forPhoneNumber.*forTenant/s, []],
  'the guide has one example'
)

const { graph, platform, theirs, account, sent, message, start, deliver } = await exampleWorker(t)

await t.test('each message is sent with the token and the number of its own tenant', async (t) => {
  const { app, databaseUrl, acme, shop, post, send, printed, end } = await start(t)
  for (let i = 0; i < 3; i++) for (const tenant of ['acme', 'shop']) send(tenant, `${tenant} ${i}`)
  const lines = await printed(6)
  t.strictSame(lines, [1, 2, 3].flatMap(() => ['acme: sent from 101', 'shop: sent from 202']))
  t.strictSame(
    sent(),
    [0, 1, 2].flatMap((i) => [
      message(acme, platform, '16505551234', `acme ${i}`),
      message(shop, theirs, '16505551234', `shop ${i}`)
    ])
  )

  const thanks = 'Thank you, we will be with you soon.'
  await deliver(t, post, platform, '101')
  t.strictSame(await printed(1), ['acme: sent from 101'])
  const unsigned = 'Passed over: not signed by the app of a tenant with this number'
  await deliver(t, post, theirs, '303', '101', '202')
  t.strictSame(
    await printed(3),
    [unsigned, unsigned, 'shop: sent from 202'],
    'a number without a tenant is passed over, and a number of another app'
  )
  t.strictSame(sent(), [message(acme, platform, '16505559999', thanks), message(shop, theirs, '16505559999', thanks)])
  await deliver(t, post, platform, '202')
  t.strictSame(await printed(1), [unsigned])
  t.strictSame(sent(), [])

  // Without its own app the squatter falls back to the platform's, whose signature is valid.
  await app.tenantConfigs.create('squatter', null, { ...acme, phone_number_id: '303' })
  await deliver(t, post, platform, '303')
  t.strictSame(await printed(1), [unsigned], 'a number that a tenant only claims is passed over')
  t.strictSame(sent(), [])

  t.equal(await end(), 0, 'the worker ends when its input ends')
  // Only the service still has a listener.
  const left = 'select application_name from pg_stat_activity where datname = current_database() and pid <> ' +
    "pg_backend_pid() and application_name like '%listen'"
  await until(async () => (await query(databaseUrl, left)).length === 1)
})

await t.test('a message that cannot be sent is reported with its reason', async (t) => {
  const { app, databaseUrl, acme, post, send, printed, end } = await start(t)
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
    t.strictSame(await printed(1), [`Failed: ${why}`], tenant)
  }
  await deliver(t, post, platform, '404')
  t.match(await printed(1), [/^Passed over: /], 'the number of an inactive tenant is passed over')
  t.strictSame(sent(), [], 'no message is sent to Meta')

  send('revoked', 'Hello')
  t.strictSame(await printed(1), ['Failed: 190'])
  send('acme', 'Hello')
  t.strictSame(await printed(1), ['acme: sent from 101'])
  t.equal(await end(), 0)
  graph.requests.length = 0
})

await t.test('a change of a token takes effect; without the database the last known values serve', async (t) => {
  const { app, databaseUrl, acme, send, printed, end } = await start(t)
  /** Sends until the worker reports this line; returns the last sent message. */
  async function untilPrinted (tenant: string, line: string) {
    await until(async () => {
      send(tenant, 'Hello')
      return (await printed(1)).includes(line)
    })
    return sent().at(-1)
  }
  t.match(await untilPrinted('acme', 'acme: sent from 101'), { token: `Bearer ${acme.access_token}` })

  const renewed = graph.state.issueToken({ app_id: platform.app_id, waba_ids: [acme.waba_id] })
  await app.tenantConfigs.update('acme', { access_token: renewed })
  await until(async () => (await untilPrinted('acme', 'acme: sent from 101'))?.token === `Bearer ${renewed}`)

  const restore = await makeUnreachable(databaseUrl)
  t.match(
    await untilPrinted('acme', 'The database is away, this is what it said last.'),
    { token: `Bearer ${renewed}` }
  )
  t.strictSame(
    await untilPrinted('shop', 'Failed: DATABASE_UNAVAILABLE'),
    undefined,
    'a configuration that was never loaded is not served'
  )
  await restore()
  await untilPrinted('shop', 'shop: sent from 202')
  t.equal(await end(), 0)
})

await t.test('no message is sent from the number of the platform', async (t) => {
  const own = account(platform, '701')
  const { app, send, printed, end } = await start(
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
    t.match(
      (await app.configLoader.forTenant(tenant)).getPhoneId(),
      '701',
      'the loader falls back to the number of the platform'
    )
    send(tenant, 'Hello')
    t.strictSame(await printed(1), ['Failed: the tenant has no configuration, or is turned off'], tenant)
  }
  t.strictSame(sent(), [])
  t.equal(await end(), 0)
})

await t.test('an invalid line fails alone, and its content is not repeated', async (t) => {
  const { write, post, send, printed, end } = await start(t)
  write('{"tenant":"acme","text":"a secret')
  post({ webhook: 'a secret' })
  t.strictSame(await printed(2), ['Failed: the line is no job', 'Failed: the line is no job'])
  for (const job of ['null', '""', '{}', '{"webhook":"null"}', '{"webhook":"{\\"entry\\":\\"a secret\\"}"}']) {
    write(job)
    const [line, ...more] = await printed(1)
    t.match([line, more], [/^Failed: /, []], job)
    t.notMatch(line, 'a secret')
  }
  send('acme', 'Hello')
  t.strictSame(await printed(1), ['acme: sent from 101'])
  t.equal(await end(), 0)
  graph.requests.length = 0
})

await t.test('a call to Meta times out, with and without an app secret', async (t) => {
  const { send, printed, end } = await start(t, {
    own: { FB_APP_ID: '', FB_APP_SECRET: '', GRAPH_API_VERSION: 'v25.0' },
    timeoutMs: '1000'
  })
  graph.fail('messages', { latency_ms: 600_000, times: 2 })
  for (const tenant of ['acme', 'shop', 'acme', 'shop']) send(tenant, 'Hello')
  t.strictSame(await printed(4), [
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
