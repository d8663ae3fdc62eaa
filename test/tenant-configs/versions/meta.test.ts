import t from '../../run/tap.js'
import { onboardingService } from '../../onboarding/onboarding-service.js'
import { config, configs } from '../../routes/client.js'
import { verificationService } from '../../verification/verification-service.js'

await t.test('a restored configuration is verified at Meta as any other', async (t) => {
  const { app, as, admin, call, sql, tenant, issue, verified } = await verificationService(t)
  const owner = async (number: string) => (await app.configLoader.forPhoneNumber(number))?.getAccessToken()
  for (const how of ['PUT', 'DELETE', 'delete-all'] as const) {
    await sql('delete from tenant_configs')
    const { id, who, access_token: token, phone_number_id: number } = await tenant()
    await verified(t, who, [])
    t.equal(await owner(number), token)
    if (how === 'PUT') {
      t.equal((await call(who, 'PUT', config, { access_token: issue(), phone_number_id: 'wrong' })).is, '200')
      t.equal((await call(who, 'POST', `${config}/versions/previous/restore`)).is, '200')
    } else if (how === 'DELETE') {
      t.equal((await call(who, 'DELETE', `${config}?unsubscribe=true`)).is, '204')
      t.equal((await call(who, 'POST', `${config}/versions/previous/restore`)).is, '200')
    } else {
      const { body } = await call(admin, 'DELETE', `${configs}/delete-all?confirm=delete-all:1`)
      t.equal((await call(admin, 'POST', `${configs}/restore`, { batch_id: body.batch_id })).is, '200')
    }
    t.equal(await owner(number), undefined, `unverified after ${how}`)
    const { body } = await verified(t, who, how === 'DELETE' ? ['subscription'] : [])
    t.match(body, { config: { access_token: `****${token.slice(-4)}`, last_verified_at: /Z$/ } })
    t.equal(await owner(number), token)
    t.match(await sql('select status from token_watch where tenant_id = $1', [id]), [{ status: 'ok' }])
  }
  t.equal((await call(as('nobody'), 'POST', `${config}/versions/previous/restore`)).is, '404 VERSION_NOT_FOUND')
})

await t.test('a number that another tenant verified meanwhile stays with that one', async (t) => {
  const { app, call, tenant, verified, issue } = await verificationService(t)
  const first = await tenant()
  await verified(t, first.who, [])
  t.equal((await call(first.who, 'DELETE', config)).is, '204')
  const { waba_id, phone_number_id } = first
  const second = await tenant({ waba_id, phone_number_id, access_token: issue() })
  await verified(t, second.who, [])
  t.equal((await call(first.who, 'POST', `${config}/versions/previous/restore`)).is, '200')
  t.equal((await call(first.who, 'POST', `${config}/verify`)).is, '409 PHONE_NUMBER_TAKEN')
  const served = await app.configLoader.forPhoneNumber(phone_number_id)
  t.equal((await call(second.who, 'GET', `${config}/full`)).body.access_token, served?.getAccessToken())
})

await t.test('an onboarding makes versions of what it replaces, and a restore ends no login', async (t) => {
  const { as, call, sql, post, resume, login, existing, configure, issue, waba, records, row } =
    await onboardingService(t)
  const tenant = await existing({ waba_id: 'old', access_token: 'the-old-token-0001' })
  const restore = async (n: string) => (await call(as(tenant), 'POST', `${config}/versions/${n}/restore`)).is
  t.equal((await configure(tenant, 'PUT', { callback_url: 'https://a.example' })).is, '200')
  t.equal((await post(tenant, { code: issue(), waba_id: waba.id })).is, '409 META_PHONE_CHOICE_REQUIRED')
  t.equal(await restore('1'), '200')
  t.match(await records(tenant), [{ status: 'in_progress', access_token: /^v2/ }])
  t.equal((await resume(tenant, { phone_number_id: '3' })).is, '200')
  t.match(await row(tenant), { waba_id: waba.id, phone_number_id: '3', onboarding_completed: true })
  t.equal((await post(tenant, login(tenant, { phone_number_id: '3' }))).is, '200')
  // Two tokens of the stand-in may expire in the same second.
  const changes = await sql(`select array_remove(changed, 'token_expires_at') as changed
    from tenant_config_versions where tenant_id = $1 order by version`, [tenant])
  t.same(changes.map(({ changed }) => changed), [
    ['callback_url'], ['callback_url'],
    ['waba_id', 'phone_number_id', 'access_token'], ['onboarding_completed', 'onboarded_at'],
    ['access_token', 'onboarding_completed'], ['onboarding_completed', 'onboarded_at']
  ])
  t.equal(await restore('3'), '200')
  t.match(await row(tenant), { waba_id: 'old', onboarding_completed: false, last_verified_at: null })
  t.equal(await restore('previous'), '200')
  t.match(await row(tenant), { waba_id: waba.id, phone_number_id: '3', last_verified_at: null })
})
