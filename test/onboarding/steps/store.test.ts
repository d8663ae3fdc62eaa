import t from '../../run/tap.js'
import { temporarilyDown } from '../../graph/errors.js'
import { CONFIG_USER, onboardingService, stepIn, stepsOf } from '../onboarding-service.js'

const service = await onboardingService(t)
const {
  app, meta, waba, post, resume, record, configure, login, newTenant, existing, asked, row, records, sql,
  freePhoneNumbers, lastToken, as, startWithMetaFault
} = service

await t.test('an onboarding of a number that another tenant only claims owns the number', async (t) => {
  const claimant = await existing({ waba_id: waba.id, phone_number_id: '250', access_token: 'a-made-up-token' })
  const claim = await row(claimant)
  const owner = newTenant()
  t.equal((await post(owner, login(owner, { phone_number_id: '250' }))).is, '201')
  t.match(await row(owner), { phone_number_id: '250' })
  t.same(await row(claimant), claim)
  t.equal((await app.configLoader.forPhoneNumber('250'))?.getTenantId(), owner)
  t.equal((await app.configLoader.forTenant(claimant)).isVerified(), false)
})

await t.test('an onboarding of an owned number stores nothing until the number is released', async (t) => {
  const [owner, tenant] = [newTenant(), newTenant()]
  await post(owner, login(owner, { phone_number_id: '249' }))
  const stored = await row(owner)
  const body = login(tenant, { phone_number_id: '249' })
  t.equal((await post(tenant, body)).is, '409 PHONE_NUMBER_TAKEN')
  t.equal((await post(tenant, body)).is, '409 PHONE_NUMBER_TAKEN', 'a replay')
  t.equal((await resume(tenant)).is, '409 PHONE_NUMBER_TAKEN', 'a resumption')
  t.same([await row(owner), await row(tenant)], [stored, undefined])
  t.match(stepsOf(await record(tenant)), [
    'exchange done 1', 'inspect done 1', 'assets done 1', 'store failed 2 PHONE_NUMBER_TAKEN', /pending/, /pending/,
    /pending/
  ])
  const old = await existing({ waba_id: 'old', access_token: 'old-token' })
  const before = await row(old)
  t.equal((await post(old, login(old, { phone_number_id: '249' }))).is, '409 PHONE_NUMBER_TAKEN')
  t.same(await row(old), before)

  await configure(owner, 'PUT', { phone_number_id: null })
  t.equal((await resume(tenant)).is, '200')
  t.match(await row(tenant), { phone_number_id: '249', onboarding_completed: true })
  t.equal((await resume(old, { phone_number_id: '248' })).is, '200', 'a resumption with another number')
  t.match(await row(old), { phone_number_id: '248', waba_id: waba.id })
})

await t.test('the old credentials are served until the new ones are verified', async (t) => {
  const tenant = newTenant()
  await post(tenant, login(tenant))
  const old = await app.configLoader.getWhatsappConfig(tenant)
  const { body: shown } = await configure(tenant, 'GET')
  const assertOldServed = async (when: string) => {
    t.same(await app.configLoader.getWhatsappConfig(tenant), old, when)
    t.same((await configure(tenant, 'GET')).body, shown, when)
  }
  for (const route of ['access_token', 'debug_token', 'phone_numbers'] as const) {
    const { answer } = await startWithMetaFault(
      route,
      { latency_ms: 300, reply: temporarilyDown() },
      async () => await post(tenant, login(tenant))
    )
    await assertOldServed(`during ${route}`)
    t.match((await answer).is, /^50/)
    await assertOldServed(`after ${route} was refused`)
  }
  t.equal((await post(tenant, login(tenant, { waba_id: '404' }))).is, '403 META_WABA_NOT_ACCESSIBLE')
  await assertOldServed('after another WABA was refused')

  t.equal((await post(tenant, login(tenant))).is, '200')
  t.match(await app.configLoader.getWhatsappConfig(tenant), { access_token: lastToken() })
  t.not(lastToken(), old.access_token)
})

await t.test('onboarding_completed is false until the onboarding is done', async (t) => {
  for (const tenant of [newTenant(), await existing({ waba_id: 'old', access_token: 'old' })]) {
    await freePhoneNumbers()
    const { answer } = await startWithMetaFault(
      'subscribe',
      { latency_ms: 300, reply: temporarilyDown() },
      async () => await post(tenant, login(tenant))
    )
    const stored = {
      waba_id: waba.id,
      access_token: `****${lastToken()?.slice(-4)}`,
      onboarding_completed: false,
      onboarded_at: null
    }
    t.match((await configure(tenant, 'GET')).body, stored)
    t.equal((await answer).is, '503 META_UNAVAILABLE')
    t.match((await configure(tenant, 'GET')).body, stored)
    t.equal((await resume(tenant)).is, '200')
    t.match((await configure(tenant, 'GET')).body, { ...stored, onboarding_completed: true, onboarded_at: String })
  }
})

await t.test('a concurrent change of the configuration supersedes the onboarding and stays', async (t) => {
  const put = (body: Record<string, unknown>) => async (tenant: string) => await configure(tenant, 'PUT', body)
  const changes = [
    [
      'deactivated',
      async (tenant: string) => await configure(tenant, 'POST', undefined, '/deactivate'),
      { is_active: false, onboarding_completed: false }
    ],
    ['deleted', async (tenant: string) => await configure(tenant, 'DELETE'), undefined],
    [
      'deleted and created again',
      async (tenant: string) => {
        await configure(tenant, 'DELETE')
        await configure(tenant, 'POST', { waba_id: 'new' })
      },
      { waba_id: 'new', access_token: null, onboarding_completed: false }
    ],
    ['another token', put({ access_token: 'another' }), { onboarding_completed: false, last_verified_at: null }],
    ['another WABA', put({ waba_id: 'another' }), { waba_id: 'another', onboarding_completed: false }],
    ['another number', put({ phone_number_id: null }), { phone_number_id: null, onboarding_completed: false }]
  ] as const
  for (const [name, change, expected] of changes) {
    for (const route of ['subscribe', 'register'] as const) {
      await freePhoneNumbers()
      const tenant = newTenant()
      const body = login(tenant, { pin: '123456' })
      const { answer } = await startWithMetaFault(route, { latency_ms: 300 }, async () => await post(tenant, body))
      await change(tenant)
      const left = await row(tenant)
      t.equal((await answer).is, '409 ONBOARDING_SUPERSEDED', `${name} during ${route}`)
      t.same(await row(tenant), left, 'the onboarding does not restore the row')
      t.match(left, expected)
      t.match(await records(tenant), [{ status: 'failed', access_token: null }])
      for (const repeat of [await post(tenant, body), await resume(tenant)]) {
        t.equal(repeat.is, '409 ONBOARDING_SUPERSEDED')
      }
      t.same(await row(tenant), left)
    }
  }
})

await t.test('a row deleted before the new credentials are stored stays deleted', async (t) => {
  const tenant = await existing({ waba_id: 'old' })
  const { answer } = await startWithMetaFault(
    'phone_numbers',
    { latency_ms: 300 },
    async () => await post(tenant, login(tenant))
  )
  await configure(tenant, 'DELETE')
  t.equal((await answer).is, '409 ONBOARDING_SUPERSEDED')
  t.equal(await row(tenant), undefined)
})

await t.test('a token replaced before the subscription supersedes the onboarding', async (t) => {
  const tenant = newTenant()
  meta.fail('subscribe', { reply: temporarilyDown() })
  await post(tenant, login(tenant))
  await configure(tenant, 'PUT', { access_token: 'another' })
  meta.requests.length = 0
  t.equal((await resume(tenant)).is, '409 ONBOARDING_SUPERSEDED')
  t.same(asked(), [])
  t.match(stepIn(
    await record(tenant),
    'subscribe'
  ), { status: 'failed', attempts: 2, error: { code: 'ONBOARDING_SUPERSEDED' } })
})

await t.test('a completed onboarding activates an inactive tenant', async (t) => {
  const tenant = await existing({
    waba_id: 'old',
    fb_app_id: 'half a pair',
    callback_url: 'https://a.example/',
    redirect_url: 'https://b.example/',
    refresh_token: 'refresh'
  })
  await configure(tenant, 'POST', undefined, '/deactivate')
  const before = await row(tenant)
  t.equal((await post(tenant, login(tenant))).is, '200')
  const after = await row(tenant) ?? {}
  const changed = Object.keys(after).filter(
    (column) => JSON.stringify(after[column]) !== JSON.stringify(before?.[column])
  )
  t.same(changed.sort(), [
    'access_token', 'is_active', 'last_verified_at', 'onboarded_at', 'onboarding_completed', 'phone_number_id',
    'token_expires_at', 'updated_at', 'waba_id'
  ])
  t.match(after, { user_id: CONFIG_USER, waba_id: waba.id, is_active: true, onboarding_completed: true })
})

await t.test('the later of two concurrent onboardings of a tenant is stored as a whole', async (t) => {
  for (let times = 0; times < 5; times++) {
    const tenant = newTenant()
    const bodies = ['240', '241'].map((phone) => login(tenant, { phone_number_id: phone }))
    const answers = await Promise.all(bodies.map(async (body) => await post(tenant, body)))
    for (const { is } of answers) t.match(is, /^(20[01]|409 ONBOARDING_SUPERSEDED)$/)
    const { body: config } = await configure(tenant, 'GET')
    t.ok(
      answers.some(
        ({ body }) => body['phone_number_id'] === config['phone_number_id'] &&
          body['access_token'] === config['access_token']
      )
    )
    t.match(config, { onboarding_completed: true, is_active: true })
    const [, later] = await records(tenant)
    t.match(later, { status: 'completed', phone_number_id: config['phone_number_id'] })
    await configure(tenant, 'DELETE')
  }
  // Meta answers the older exchange after the newer onboarding has completed.
  const tenant = newTenant()
  const { answer: older } = await startWithMetaFault(
    'access_token',
    { latency_ms: 500 },
    async () => await post(tenant, login(tenant, { phone_number_id: '240' }))
  )
  t.equal((await post(tenant, login(tenant, { phone_number_id: '241' }))).is, '201')
  t.equal((await older).is, '409 ONBOARDING_SUPERSEDED')
  t.match(await row(tenant), { phone_number_id: '241', onboarding_completed: true })
})

await t.test('an onboarding whose store step failed internally is resumed by a replay', async (t) => {
  const tenant = newTenant()
  const body = login(tenant)
  await sql(
    `alter table tenant_configs add constraint never check (tenant_id <> 'tenant') not valid;
    alter table tenant_configs rename column refresh_token to renamed`
  )
  const answer = await service.call(as(tenant), 'GET', '/api/v1/tenant/config')
  t.equal(answer.is, '500 INTERNAL')
  await sql(
    `alter table tenant_configs rename column renamed to refresh_token;
    alter table tenant_configs drop constraint never`
  )
  await sql(
    `create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
    create trigger refuse before insert on tenant_configs for each row execute function refuse()`
  )
  t.equal((await post(tenant, body)).is, '500 INTERNAL')
  t.match(stepIn(await record(tenant), 'store'), { status: 'failed', error: { code: 'INTERNAL', meta_code: null } })
  await sql('drop function refuse cascade')
  t.equal((await post(tenant, body)).is, '201')
  t.equal(asked('access_token').length, 1)
})
