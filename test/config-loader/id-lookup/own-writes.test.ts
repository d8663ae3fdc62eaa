import t from '../../run/tap.js'
import { storeVerified, verifyStored } from '../../fixtures/verified-rows.js'
import { createDatabase } from '../../helper.js'
import { createLookups } from './lookups.js'

await t.test('a write of this process is visible to the next lookup without any notification', async (t) => {
  for (const isBlind of [false, true]) {
    // The invalidation listener of a blind service is connected to another database.
    const blind: Record<string, string | number> = isBlind
      ? { DATABASE_DIRECT_URL: await createDatabase(t), CONFIG_CACHE_BLIND_TTL_MS: 60_000 }
      : {}
    const { app, configLoader, tenantConfigs, byNumber, byWaba } =
      await createLookups(t, { CONFIG_CACHE_TTL_MS: 60_000, ...blind })
    t.equal(configLoader.stats().channel, isBlind ? 'down' : 'up')
    const numbers = ['1', '2', '3']
    const wabas = ['7', '8', '9']
    const createVerified = async (tenantId: string, ids: object) => {
      await tenantConfigs.create(tenantId, null, ids)
      await verifyStored(app, tenantId)
    }
    const all = async () => [await Promise.all(numbers.map(byNumber)), await Promise.all(wabas.map(byWaba))]
    const steps: [what: string, write: () => Promise<unknown>, onNumbers: (string | null)[], onWabas: string[][]][] = [
      ['nobody', async () => {}, [null, null, null], [[], [], []]],
      [
        'create',
        async () => await tenantConfigs.create('a', null, { phone_number_id: '1', waba_id: '7', access_token: 'one' }),
        [null, null, null],
        [[], [], []]
      ],
      ['verify', async () => await verifyStored(app, 'a'), ['a', null, null], [['a'], [], []]],
      [
        'a second tenant',
        async () => { await createVerified('b', { phone_number_id: '2', waba_id: '7' }) },
        ['a', 'b', null],
        [['a', 'b'], [], []]
      ],
      [
        'the same number, unverified',
        async () => await tenantConfigs.create('squatter', null, { phone_number_id: '2', waba_id: '7' }),
        ['a', 'b', null],
        [['a', 'b'], [], []]
      ],
      [
        'removal of the unverified tenant',
        async () => { await tenantConfigs.remove('squatter') },
        ['a', 'b', null],
        [['a', 'b'], [], []]
      ],
      [
        'update of the number',
        async () => await tenantConfigs.update('a', { phone_number_id: '3' }),
        [null, 'b', null],
        [['b'], [], []]
      ],
      ['verify the number', async () => await verifyStored(app, 'a'), [null, 'b', 'a'], [['a', 'b'], [], []]],
      [
        'update of the account',
        async () => await tenantConfigs.update('a', { waba_id: '8' }),
        [null, 'b', null],
        [['b'], [], []]
      ],
      ['verify the account', async () => await verifyStored(app, 'a'), [null, 'b', 'a'], [['b'], ['a'], []]],
      [
        'another token',
        async () => await tenantConfigs.update('a', { access_token: 'another' }),
        [null, 'b', 'a'],
        [['b'], ['a'], []]
      ],
      ['deactivate', async () => await tenantConfigs.setActive('a', false), [null, 'b', null], [['b'], [], []]],
      ['activate', async () => await tenantConfigs.setActive('a', true), [null, 'b', 'a'], [['b'], ['a'], []]],
      [
        'removal of the ids',
        async () => await tenantConfigs.update('a', { phone_number_id: null, waba_id: null }),
        [null, 'b', null],
        [['b'], [], []]
      ],
      [
        'onboarding',
        async () => {
          await storeVerified(app, 'c', {
            waba_id: '9',
            phone_number_id: '1',
            access_token: 'one',
            token_expires_at: null
          })
        },
        ['c', 'b', null],
        [['b'], [], ['c']]
      ],
      [
        'another token of b',
        async () => await tenantConfigs.update('b', { access_token: 'another' }),
        ['c', 'b', null],
        [['b'], [], ['c']]
      ],
      [
        'onboarding with the number of another tenant',
        async () => {
          await storeVerified(app, 'a', {
            waba_id: '9',
            phone_number_id: '2',
            access_token: 'two',
            token_expires_at: null
          })
        },
        ['c', 'a', null],
        [[], [], ['a', 'c']]
      ],
      [
        'onboarding with another number',
        async () => {
          await storeVerified(app, 'a', {
            waba_id: '8',
            phone_number_id: '3',
            access_token: 'two',
            token_expires_at: null
          })
        },
        ['c', null, 'a'],
        [[], ['a'], ['c']]
      ],
      [
        'verify ids that another tenant left',
        async () => await verifyStored(app, 'b'),
        ['c', 'b', 'a'],
        [['b'], ['a'], ['c']]
      ],
      ['remove', async () => { await tenantConfigs.remove('a') }, ['c', 'b', null], [['b'], [], ['c']]],
      ['remove all', async () => { await tenantConfigs.removeAll(2) }, [null, null, null], [[], [], []]]
    ]
    for (const [what, write, onNumbers, onWabas] of steps) {
      await write()
      for (const times of ['first', 'again']) {
        t.strictSame(await all(), [onNumbers, onWabas], `${what}, ${times}${isBlind ? ', blind' : ''}`)
      }
    }
  }
})
