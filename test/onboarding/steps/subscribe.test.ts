import t from '../../run/tap.js'
import { app } from '../../meta/wire.js'
import { callback, onboardingService, stepIn, type Body } from '../onboarding-service.js'

const service = await onboardingService(t)
const {
  meta, waba, post, resume, record, configure, login, newTenant, existing, asked, row, records, freePhoneNumbers, sql
} = service
const platform = meta.state.apps.get(app.id)
if (platform === undefined) throw new Error('the stand-in has no app')

/** Creates a tenant with its own callback, which the Graph stand-in verifies with a real request. */
async function tenantWithCallback (verifyToken = 'verify-me', further: Body = {}) {
  const hook = await callback(t, 'verify-me')
  return { tenant: await existing({ callback_url: hook.url, verify_token: verifyToken, ...further }), hook }
}

await t.test('an onboarding subscribes the WABA and sets the callback of the tenant', async (t) => {
  platform.callback_url = 'https://platform.example/hook'
  const plain = newTenant()
  t.equal((await post(plain, login(plain))).is, '201')
  t.same(waba.subscriptions.get(app.id), {})
  t.match(stepIn(
    await record(plain),
    'subscribe'
  ), { status: 'done', evidence: { waba_id: waba.id, callback: 'none' } })

  await freePhoneNumbers()
  const { tenant, hook } = await tenantWithCallback()
  t.equal((await post(tenant, login(tenant))).is, '200')
  t.same(hook.asked, ['verify-me'], 'Meta verified the callback')
  t.same(waba.subscriptions.get(app.id), { override: { url: hook.url, verify_token: 'verify-me' } })
  t.same(asked().slice(-2).map(({ route }) => route), ['subscribe', 'override'])
  t.match(stepIn(await record(tenant), 'subscribe'), { evidence: { waba_id: waba.id, callback: 'account' } })
  for (const half of [{ callback_url: hook.url }, { verify_token: 'verify-me' }]) {
    const tenant = await existing(half)
    meta.requests.length = 0
    t.equal((await post(tenant, login(tenant))).is, '200')
    t.equal(asked('override').length, 0, 'a half pair is no callback')
  }
})

await t.test('an onboarding with a refused callback is resumed after the callback is corrected', async (t) => {
  const { tenant, hook } = await tenantWithCallback('not what it knows')
  const body = login(tenant)
  t.equal((await post(tenant, body)).is, '409 META_CALLBACK_REFUSED')
  t.same(hook.asked, ['not what it knows'])
  t.match(stepIn(await record(tenant), 'subscribe'), {
    status: 'failed',
    evidence: null,
    error: { code: 'META_CALLBACK_REFUSED', meta_code: 2200, fbtrace_id: /^A/, advice: /hub.challenge/ }
  })
  t.match(await row(tenant), { waba_id: waba.id, onboarding_completed: false })
  t.equal((await post(tenant, body)).is, '409 META_CALLBACK_REFUSED')
  t.equal(hook.asked.length, 1, 'a replay does not verify the callback')
  await configure(tenant, 'PUT', { verify_token: 'verify-me' })
  t.equal((await resume(tenant)).is, '200')
  t.match(await row(tenant), { onboarding_completed: true })
})

await t.test('an app without its own webhook cannot override the callback', async (t) => {
  platform.callback_url = null
  const { tenant } = await tenantWithCallback()
  const answer = await post(tenant, login(tenant))
  t.match(answer, { is: '502 META_APP_REJECTED', body: { detail: /app's dashboard/ } })
  platform.callback_url = 'https://platform.example/hook'
  t.equal((await resume(tenant)).is, '200')
})

await t.test('a callback_url of 201 characters is refused before the code is spent', async (t) => {
  const url = (length: number) => 'https://a.example/'.padEnd(length, 'x')
  const tenant = await existing({ callback_url: url(201), verify_token: 'v' })
  const body = login(tenant)
  t.equal((await post(tenant, body)).is, '400 CALLBACK_URL_TOO_LONG')
  t.same([asked(), await records(tenant)], [[], []])
  await configure(tenant, 'PUT', { callback_url: url(200) })
  t.equal((await post(tenant, body)).is, '409 META_CALLBACK_REFUSED', 'no server answers at this URL')
  await configure(tenant, 'PUT', { callback_url: url(201) })
  t.equal((await resume(tenant)).is, '400 CALLBACK_URL_TOO_LONG', 'a resumption checks the current callback_url')
  await configure(tenant, 'PUT', { callback_url: null })
  t.equal((await resume(tenant)).is, '200')
})

await t.test('an unreadable verify_token fails the onboarding until it is replaced', async (t) => {
  const { tenant } = await tenantWithCallback()
  await sql("update tenant_configs set verify_token = 'garbage' where tenant_id = $1", [tenant])
  t.equal((await post(tenant, login(tenant))).is, '500 SECRET_UNREADABLE')
  await configure(tenant, 'PUT', { verify_token: 'verify-me' })
  t.equal((await resume(tenant)).is, '200')
})
