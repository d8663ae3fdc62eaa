import { createAdminClient, createTenantClient } from './client.js'
import { account, type Stage } from './stage.js'
import type { Step } from './steps.js'

/** Acme's token is valid, then revoked, then replaced by a login in the popup. The transitions are notified. */
export async function showTokenWatch ({ service, meta, waitForEvents }: Stage, step: Step): Promise<void> {
  const acme = createTenantClient(service, 'acme')
  const transitions: string[] = []
  service.onboarding.onTransition(({ tenant_id, type }) => { transitions.push(`${tenant_id}: ${type}`) })

  await step('Asked now, Meta confirms all of it.', acme.post('/config/verify'),
    { status: 200, body: { ok: true, checks: passedChecks } })
  await step('This is how the token is, as far as the service knows without asking.', acme.get('/config/health'),
    { status: 200, body: { token_status: 'ok', reason: null, checked_at: /^\d{4}-/, next_check_at: /^\d{4}-/ } })

  const { body: stored } = await acme.get('/config/full')
  await meta.revokeToken(String(stored['access_token']))
  await step('The user who logged in changes the password, which ends the token. Now Meta says no.',
    acme.post('/config/verify'),
    {
      status: 200,
      body: {
        ok: false,
        checks: [{ name: 'token', ok: false, detail: /password/ }, { ok: false }, { ok: false }, { ok: false }]
      }
    })
  await step('The service remembers that.', acme.get('/config/health'),
    { status: 200, body: { token_status: 'revoked', reason: 'meta_190_460' } })

  const { waba_id, phone_number_id } = account
  const login = { code: await meta.login(waba_id), waba_id, phone_number_id }
  await step("Acme connects again, this time in the popup of Meta's SDK, which names account and number.",
    acme.post('/onboard/whatsapp-client', login),
    { status: 200, body: { onboarding_completed: true } })
  await step('All is well again.', acme.get('/config/health'),
    { status: 200, body: { token_status: 'ok', reason: null } })
  await step('Code in the process was told of all this at once ...', Promise.resolve({ told: transitions }),
    { told: ['acme: token.revoked', 'acme: onboarding.completed', 'acme: token.recovered'] })
  const toldByWebhook = waitForEvents(['token.revoked', 'token.recovered'])
  await step('... and the platform by a webhook, signed and in order.', toldByWebhook, {
    events: [
      {
        type: 'token.revoked',
        tenant_id: 'acme',
        from: 'ok',
        to: 'revoked',
        reason: 'meta_190_460',
        is_signed: true
      },
      { type: 'token.recovered', tenant_id: 'acme', from: 'revoked', to: 'ok', is_signed: true }
    ]
  })
}

const passedChecks = ['token', 'assets', 'subscription', 'callback'].map((name) => ({ name, ok: true }))

/** Globex removes the app at Meta, in the account `globexWaba`; acme deletes its configuration here. */
export async function showOffboarding ({ service, meta }: Stage, step: Step, globexWaba: string): Promise<void> {
  const [acme, globex] = [createTenantClient(service, 'acme'), createTenantClient(service, 'globex')]
  await step('Globex removes the platform from its account, in its settings at Meta. ' +
    'Meta tells the app, signed, and by mistake twice.', meta.removeApp(globexWaba), { statuses: [200, 200] })
  await step('Globex is turned off.', globex.get('/config'), { status: 200, body: { is_active: false } })
  await step('This is why.', globex.get('/config/health'), { status: 200, body: { reason: 'PARTNER_REMOVED' } })
  await step('An admin deletes it.', createAdminClient(service).delete('/admin/configs/delete-tenant/globex'),
    { status: 204 })
  await step('Acme leaves too, and has the app taken off its account first.',
    acme.delete('/config?unsubscribe=true'), { status: 204 })
  await step('No more of its messages come from Meta.', meta.listSubscriptions(account.waba_id),
    { subscriptions: [] })
}
