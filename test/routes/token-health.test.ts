import t from '../run/tap.js'
import { numberStatuses, tokenStatuses } from '../../src/schemas/statuses.js'
import { TokenHealth, tokenStatus } from '../../src/schemas/token-health.js'
import { client, config } from './client.js'

const health = `${config}/health`
const phoneFacts = {
  display_phone_number: '+1 555 0100',
  verified_name: null,
  is_on_biz_app: false,
  platform_type: null,
  quality_rating: 'GREEN'
}

await t.test('the health route shows the token state of the tenant', async (t) => {
  const { app, as, call } = await client(t)
  t.match(await call(as('acme'), 'GET', health), { is: '404 CONFIG_NOT_FOUND' })

  const bare = {
    token_status: 'unverified',
    reason: 'no_token',
    checked_at: null,
    token_expires_at: null,
    next_check_at: null,
    account_status: 'ok',
    account_reason: null,
    account_initiated_by: null,
    number_status: 'none',
    number_reason: null
  }
  await call(as('acme'), 'POST', config, { waba_id: '1' })
  t.strictSame((await call(as('acme'), 'GET', health)).body, bare)

  await call(as('acme'), 'PUT', config, { access_token: 'a-token' })
  t.match((await call(as('acme'), 'GET', health)).body, { ...bare, reason: null, next_check_at: /Z$/ })
  const { access_token: sealed } = await app.tenantConfigs.find('acme') ?? {}
  await app.tokenWatch.record('acme', String(sealed), { valid: true, expires_at: '2100-01-01T00:00:00.000Z' })
  t.match((await call(as('acme'), 'GET', health)).body, {
    token_status: 'ok',
    reason: null,
    checked_at: /Z$/,
    token_expires_at: '2100-01-01T00:00:00.000000Z'
  })
  await call(as('acme'), 'PUT', config, { phone_number_id: '2' })
  t.match((await call(as('acme'), 'GET', health)).body, { number_status: 'unknown', number_reason: null })
  await app.database.transaction(async (tx) => {
    const phone = { ...phoneFacts, id: '2', status: 'BANNED' }
    await app.tokenWatch.recordNumberIn(tx, 'acme', '2', phone)
  })
  t.match((await call(as('acme'), 'GET', health)).body, { number_status: 'restricted', number_reason: 'BANNED' })
  await call(as('acme'), 'PUT', config, { phone_number_id: '3' })
  t.match((await call(as('acme'), 'GET', health)).body, { number_status: 'unknown', number_reason: null })
  t.match(await call(as('other'), 'GET', health), { is: '404 CONFIG_NOT_FOUND' }, "another tenant's is not shown")
})

await t.test('the documented token states are those of the database', async (t) => {
  t.same(tokenStatus({})['enum'], tokenStatuses)
  t.same(TokenHealth.properties.number_status['enum'], numberStatuses)
})
