import t from '../../run/tap.js'
import { accountUpdate, accountUpdateUrl, signedHeaders, uniqueNumber } from '../../account-updates/deliveries.js'
import { temporarilyDown } from '../../graph/errors.js'
import { app } from '../../meta/wire.js'
import { config, configs } from '../../routes/client.js'
import { onboardingService, stepsOf } from '../onboarding-service.js'

const service = await onboardingService(t)
const {
  meta, waba, post, resume, record, configure, login, issue, newTenant, existing, asked, row, records, expireLeases,
  sql, freePhoneNumbers, instance, call, as, admin, lastToken, startWithMetaFault
} = service
const other = await instance()

await t.test('a token that arrives after its exchange was given up is stored unless its login ended', async (t) => {
  const changes = [
    ['nothing', async () => {}, { onboarding_completed: true, phone_number_id: '250', is_active: true }],
    ['deleted', async (tenant: string) => { t.equal((await configure(tenant, 'DELETE')).is, '204') }, undefined],
    [
      'deactivated',
      async (tenant: string) => { t.equal((await configure(tenant, 'POST', undefined, '/deactivate')).is, '200') },
      { waba_id: 'old', is_active: false }
    ],
    [
      'a newer login',
      async (tenant: string) => {
        t.equal(
          (await other.post(tenant, login(tenant, { phone_number_id: '249' }))).is,
          '200'
        )
      },
      { phone_number_id: '249', onboarding_completed: true }
    ]
  ] as const
  for (const [name, change, expected] of changes) {
    const tenant = await existing({ waba_id: 'old', access_token: 'old' })
    const body = login(tenant, { phone_number_id: '250' })
    const { answer: first } = await startWithMetaFault(
      'access_token',
      { latency_ms: 1400 },
      async () => await post(tenant, body)
    )
    await expireLeases(tenant)
    t.equal((await other.post(tenant, body)).is, '502 META_EXCHANGE_UNKNOWN')
    await change(tenant)
    const left = await row(tenant)
    t.equal((await first).is, name === 'nothing' ? '200' : '502 META_EXCHANGE_UNKNOWN', name)
    if (name !== 'nothing') t.same(await row(tenant), left, 'the late token does not change the row')
    if (expected === undefined) t.equal(left, undefined)
    else t.match(await row(tenant), expected)
    t.match((await records(tenant))[0], { status: name === 'nothing' ? 'completed' : 'failed', access_token: null })
    t.equal(asked('access_token').filter(({ form }) => form['code'] === body['code']).length, 1)
    await sql('delete from tenant_configs')
  }
})

await t.test('a tenant deactivated during any step of a login stays inactive', async (t) => {
  for (const [name, deactivate] of [
    ['POST /deactivate', async (tenant: string) => await configure(tenant, 'POST', undefined, '/deactivate')],
    [
      'an SQL update',
      async (tenant: string) => await sql('update tenant_configs set is_active = false where tenant_id = $1', [tenant])
    ]
  ] as const) {
    for (const route of ['access_token', 'debug_token', 'phone_numbers', 'subscribe', 'register'] as const) {
      await freePhoneNumbers()
      const tenant = newTenant()
      t.equal((await post(tenant, login(tenant))).is, '201')
      const body = login(tenant, { pin: '123456' })
      const { answer } = await startWithMetaFault(route, { latency_ms: 300 }, async () => await post(tenant, body))
      await deactivate(tenant)
      const left = await row(tenant)
      t.equal(left?.['is_active'], false)
      t.equal((await answer).is, '409 ONBOARDING_SUPERSEDED', `${name} during ${route}`)
      for (const repeat of [await post(tenant, body), await resume(tenant)]) {
        t.equal(repeat.is, '409 ONBOARDING_SUPERSEDED')
      }
      t.same(await row(tenant), left)
      t.match((await records(tenant)).at(-1), { status: 'failed', access_token: null, holder: null })
    }
  }
})

await t.test('an inactive tenant deactivated again during any step of a login stays inactive', async (t) => {
  const removed = async (tenant: string) => {
    const time = Math.floor(Date.now() / 1000) + 60 + uniqueNumber()
    const body = JSON.stringify(accountUpdate('PARTNER_REMOVED', { waba: waba.id, time }))
    t.equal((await call({}, 'POST', accountUpdateUrl, body, signedHeaders(body, app.secret))).is, '200', tenant)
  }
  for (const [name, deactivate] of [
    [
      'POST /deactivate',
      async (tenant: string) => { t.equal((await configure(tenant, 'POST', undefined, '/deactivate')).is, '200') }
    ],
    ['PARTNER_REMOVED', removed]
  ] as const) {
    for (const route of ['access_token', 'debug_token', 'phone_numbers', 'subscribe', 'register'] as const) {
      await freePhoneNumbers()
      const tenant = newTenant()
      t.equal((await post(tenant, login(tenant))).is, '201')
      t.equal((await configure(tenant, 'POST', undefined, '/deactivate')).is, '200')
      const body = login(tenant, { pin: '123456' })
      const { answer } = await startWithMetaFault(route, { latency_ms: 300 }, async () => await post(tenant, body))
      await deactivate(tenant)
      t.equal((await answer).is, '409 ONBOARDING_SUPERSEDED', `${name} during ${route}`)
      t.match(await row(tenant), { is_active: false })
      t.match((await records(tenant)).at(-1), { status: 'failed', access_token: null, holder: null })
      t.equal((await resume(tenant)).is, '409 ONBOARDING_SUPERSEDED')
    }
  }
})

await t.test('a login that started before a deactivation is superseded after the reactivation', async (t) => {
  const tenant = newTenant()
  await post(tenant, login(tenant))
  meta.fail('debug_token', { latency_ms: 300, reply: temporarilyDown() })
  t.equal((await post(tenant, login(tenant))).is, '503 META_UNAVAILABLE')
  await configure(tenant, 'POST', undefined, '/deactivate')
  await configure(tenant, 'POST', undefined, '/activate')
  t.equal((await resume(tenant)).is, '409 ONBOARDING_SUPERSEDED')
})

/** Creates a tenant without a configuration, whose login has a token and waits for the choice of a number. */
async function tenantWithOpenLogin (): Promise<string> {
  const tenant = newTenant()
  const { is } = await post(tenant, { code: issue(), waba_id: waba.id })
  t.equal(is, '409 META_PHONE_CHOICE_REQUIRED')
  t.match(await records(tenant), [{ status: 'in_progress', access_token: /^v2\./ }])
  return tenant
}

await t.test('each deletion route ends a waiting login of a tenant without a configuration', async (t) => {
  await sql('delete from tenant_configs')
  const bystander = await tenantWithOpenLogin()
  const assertEnded = async (tenant: string) => {
    t.match(await records(tenant), [{ status: 'failed', access_token: null, holder: null }])
    t.equal((await resume(tenant, { phone_number_id: '1' })).is, '409 ONBOARDING_SUPERSEDED')
    t.equal(await row(tenant), undefined)
    t.equal((await call(as(tenant), 'DELETE', config)).is, '404 CONFIG_NOT_FOUND', 'nothing to delete')
    t.equal(
      (await call(admin, 'DELETE', `${configs}/delete-tenant/${encodeURIComponent(tenant)}`)).is,
      '404 CONFIG_NOT_FOUND'
    )
  }
  const [own, admins, all] = [await tenantWithOpenLogin(), await tenantWithOpenLogin(), await tenantWithOpenLogin()]
  t.equal((await call(as(own), 'DELETE', config)).is, '204')
  await assertEnded(own)
  t.equal((await call(admin, 'DELETE', `${configs}/delete-tenant/${encodeURIComponent(admins)}`)).is, '204')
  await assertEnded(admins)
  t.equal((await call(admin, 'DELETE', `${configs}/delete-all?confirm=delete-all:1`)).is, '409 CONFIRMATION_MISMATCH')
  for (const tenant of [all, bystander]) {
    t.match(await records(tenant), [{ status: 'in_progress', access_token: /^v2\./ }], 'nothing was deleted')
  }
  t.match((await call(admin, 'DELETE', `${configs}/delete-all`)).body, { confirm: 'delete-all:0' })
  t.match(
    await call(admin, 'DELETE', `${configs}/delete-all?confirm=delete-all:0`),
    { is: '200', body: { deleted: 0 } }
  )
  for (const tenant of [all, bystander]) await assertEnded(tenant)
})

await t.test('a deletion ends a running exchange of a tenant without a configuration', async (t) => {
  const tenant = newTenant()
  const { answer } = await startWithMetaFault(
    'access_token',
    { latency_ms: 500 },
    async () => await post(tenant, login(tenant))
  )
  t.equal((await configure(tenant, 'DELETE')).is, '204')
  t.equal((await answer).is, '409 ONBOARDING_SUPERSEDED')
  t.equal(await row(tenant), undefined)
  t.match(await records(tenant), [{ status: 'failed', access_token: null }])
})

await t.test('a waiting login is superseded under another app and resumes under its own', async (t) => {
  const own = meta.state.addApp({ app_id: '42' })
  const account = meta.state.addWaba({ app_ids: [own.app_id], phones: [{ id: 'own 1' }, { id: 'own 2' }] })
  const tenant = await existing({ fb_app_id: own.app_id, fb_app_secret: own.app_secret })
  t.equal(
    (await post(tenant, { code: issue({ app_id: own.app_id }), waba_id: account.id })).is,
    '409 META_PHONE_CHOICE_REQUIRED'
  )
  t.equal((await configure(tenant, 'PUT', { fb_app_id: app.id, fb_app_secret: app.secret })).is, '200')
  const before = asked().length
  t.equal((await resume(tenant, { phone_number_id: 'own 2' })).is, '409 ONBOARDING_SUPERSEDED')
  t.equal(asked().length, before, 'the token is not sent for the other app')
  t.match(stepsOf(await record(tenant)), [
    'exchange done 1', 'inspect done 1', 'assets failed 1 META_PHONE_CHOICE_REQUIRED', ...Array(4).fill(/pending 0/)
  ])
  t.equal((await configure(tenant, 'PUT', { fb_app_id: own.app_id, fb_app_secret: own.app_secret })).is, '200')
  t.equal((await resume(tenant, { phone_number_id: 'own 2' })).is, '200')
  t.match((await configure(tenant, 'GET', undefined, '/full')).body, {
    waba_id: account.id,
    phone_number_id: 'own 2',
    access_token: lastToken(),
    onboarding_completed: true
  })
})
