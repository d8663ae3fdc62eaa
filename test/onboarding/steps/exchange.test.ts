import { randomUUID } from 'node:crypto'
import t from '../../run/tap.js'
import { insertOnboarding } from '../../../src/onboarding/onboardings.sql.js'
import { newSteps } from '../../../src/onboarding/record.js'
import { createSteps } from '../../../src/onboarding/steps/steps.js'
import { buildTestApp } from '../../helper.js'

const { app } = await buildTestApp(t)
const { metaGraph, tenantConfigs, tokenWatch, events, audit, vault, log, database } = app

await t.test('an exchange without a code is rejected', async (t) => {
  const steps = createSteps({
    database, metaGraph, tenantConfigs, tokenWatch, events, audit, vault, log, timeoutMs: 1000
  })
  const leaseOwner = randomUUID()
  const record = await insertOnboarding(database, {
    tenant_id: 'acme',
    user_id: null,
    code_hash: 'x',
    steps: newSteps(),
    waba_id: null,
    phone_number_id: null,
    pin_given: false,
    holder: leaseOwner,
    former: null
  })
  if (record === null) throw new Error('not inserted')
  const progress = { finish: async () => {}, saveToken: async () => {} }
  await t.rejects(steps.exchange({ record, leaseOwner, app: { id: '1', secret: 's' } }, progress), /needs a code/)
})
