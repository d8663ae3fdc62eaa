import type { FastifyInstance } from 'fastify'
import { rollback } from '../../database/migrations/migrations.js'
import { createAdminClient, createTenantClient } from './client.js'
import { showOnboarding } from './onboarding.js'
import { account, fallback, type Stage } from './stage.js'
import type { Step } from './steps.js'
import { showOffboarding, showTokenWatch } from './watch.js'

/** The credentials that globex has from elsewhere. */
const brought = {
  waba_id: '215589313241560',
  phone_number_id: '218839451310034',
  access_token: 'EAATheTokenThatGlobexBrought',
  callback_url: 'https://globex.example/webhooks/whatsapp',
  verify_token: 'the-verify-token-of-globex'
}

/** Runs all steps of the demo. Acme logs in at Meta, globex brings its own credentials. */
export async function runStory (stage: Stage, step: Step): Promise<void> {
  await showOnboarding(stage, step)
  await showTokenWatch(stage, step)
  await showOwnCredentials(stage.service, step)
  await showLoader(stage, step)
  await showIsolation(stage.service, step)
  await showAdministration(stage.service, step)
  await showOffboarding(stage, step, brought.waba_id)
  await showRollback(stage, step)
}

async function showOwnCredentials (service: FastifyInstance, step: Step): Promise<void> {
  const globex = createTenantClient(service, 'globex')
  const { access_token, verify_token, ...open } = brought
  const masked = { access_token: '****ught', verify_token: '****obex' }
  await step('Globex has credentials from elsewhere. It tries them before it stores them, and is told what Meta says.',
    globex.post('/config/verify', brought),
    {
      status: 200,
      body: {
        ok: false,
        checks: [{ name: 'token', ok: false }, { ok: false }, { ok: false }, { ok: false }],
        config: null
      }
    })
  await step('It writes them all the same. They are unverified, so it does not count as onboarded.',
    globex.post('/config', brought),
    { status: 201, body: { tenant_id: 'globex', ...open, ...masked, onboarding_completed: false, is_active: true } })
  await step('Read, the secrets are masked ...', globex.get('/config'), { status: 200, body: { ...open, ...masked } })
  await step('... unless one asks for all of it. (Only this print masks them.)', globex.get('/config/full'),
    { status: 200, body: brought })
  await step('An update changes what it names and leaves the rest; null clears.',
    globex.put('/config', { callback_url: 'https://globex.example/v2', verify_token: null }),
    { status: 200, body: { ...open, ...masked, callback_url: 'https://globex.example/v2', verify_token: null } })
  await step('A masked value that is sent back is refused, not stored.',
    globex.put('/config', { access_token: masked.access_token }),
    { status: 400, body: { code: 'MASKED_VALUE' } })
}

async function showLoader ({ service, callback }: Stage, step: Step): Promise<void> {
  const acme = createTenantClient(service, 'acme')
  const { body: stored } = await step('This is what acme has in the database ...', acme.get('/config/full'),
    { status: 200 })
  const own = {
    hasTenantConfig: true,
    config: {
      phone_id: account.phone_number_id,
      waba_id: account.waba_id,
      access_token: stored['access_token'],
      callback_url: callback.callback_url,
      redirect_url: fallback.REDIRECT_URL
    },
    sources: {
      phone_id: 'database',
      waba_id: 'database',
      access_token: 'database',
      callback_url: 'database',
      redirect_url: 'env'
    }
  }
  const platform = {
    hasTenantConfig: false,
    config: {
      phone_id: fallback.WHATSAPP_PHONE_ID,
      waba_id: fallback.WHATSAPP_WABA_ID,
      access_token: fallback.WHATSAPP_TOKEN,
      callback_url: fallback.CALLBACK_URL
    },
    sources: { phone_id: 'env', waba_id: 'env', access_token: 'env', callback_url: 'env' }
  }
  await step('... and this is what code that sends messages gets for acme. ' +
    'What acme has not set comes from the .env values.', readSnapshot(service, 'acme'), own)
  await step('A tenant that the database does not know gets the .env values.',
    readSnapshot(service, 'initech'), platform)
  await step('Acme is deactivated ...', acme.post('/config/deactivate'), { status: 200, body: { is_active: false } })
  await step('... and from then on gets the .env values too, its own number and token never mixed with them.',
    readSnapshot(service, 'acme'), platform)
  await step('Activated again ...', acme.post('/config/activate'), { status: 200, body: { is_active: true } })
  await step('... it gets its own.', readSnapshot(service, 'acme'), own)
}

async function readSnapshot ({ configLoader }: FastifyInstance, tenantId: string) {
  const config = await configLoader.forTenant(tenantId)
  return { hasTenantConfig: config.hasTenantConfig(), config: config.getAllConfig(), sources: config.getSources() }
}

async function findOwner ({ configLoader }: FastifyInstance) {
  const config = await configLoader.forPhoneNumber(account.phone_number_id)
  return { tenant_id: config?.getTenantId() }
}

async function showIsolation (service: FastifyInstance, step: Step): Promise<void> {
  const globex = createTenantClient(service, 'globex')
  await step('Globex cannot see acme: whose configuration it is, the token alone says ...', globex.get('/config'),
    { status: 200, body: { tenant_id: 'globex' } })
  await step('... and nothing in the request.', globex.get('/config?tenant_id=acme'),
    { status: 400, body: { code: 'VALIDATION_FAILED' } })
  await step('Globex can claim the number of acme ...',
    globex.put('/config', { phone_number_id: account.phone_number_id }),
    { status: 200, body: { last_verified_at: null } })
  await step('... but its messages are those of acme, for whom Meta confirmed it.', findOwner(service),
    { tenant_id: 'acme' })
  await step('No tenant opens the admin routes.', globex.get('/admin/configs/all'),
    { status: 403, body: { code: 'FORBIDDEN' } })
}

async function showAdministration (service: FastifyInstance, step: Step): Promise<void> {
  const { get } = createAdminClient(service)
  await step('An admin counts ...', get('/admin/configs/stats'),
    {
      status: 200,
      body: {
        total: 2,
        active: 2,
        inactive: 0,
        onboarded: 1,
        pending: 1,
        tokens: { expired: 0, no_expiry: 1, missing: 0 },
        token_status: { ok: 1, reauth_required: 0 }
      }
    })
  await step('... and lists all tenants, a page at a time, without opening a secret.',
    get('/admin/configs/all?limit=1'),
    { status: 200, body: { configs: [{ tenant_id: 'acme', access_token: '****' }], next_cursor: /./ } })
}

async function showRollback ({ service, startAgain, databaseUrl }: Stage, step: Step): Promise<void> {
  await service.close()
  await step('The service is stopped and its schema rolled back, which deletes what the tables held.',
    rollBackAll(databaseUrl), { undone: /0000_tenant_configs$/ })
  const restarted = await startAgain()
  await step('Started again, it brings the schema up to date. The tables are empty.',
    createTenantClient(restarted, 'acme').get('/config'),
    { status: 404, body: { code: 'CONFIG_NOT_FOUND' } })
}

async function rollBackAll (databaseUrl: string) {
  const names: string[] = []
  for (;;) {
    const name = await rollback(databaseUrl, async () => true)
    if (name === null) return { undone: names.join(', ') }
    names.push(name)
  }
}
