import t from '../../run/tap.js'
import { tokenSubcodes } from '../errors.js'
import { routes } from '../faults.js'
import { faultNames } from './fault-json.js'
import { APP, done, ours, startWithControl } from './start-control.js'

const { graph, raw, control, debug } = await startWithControl(t)
await control('POST', 'seed', {
  apps: [APP],
  wabas: [{ id: '102', phones: [{ id: '106' }] }],
  tokens: [{ access_token: 'EAAfixed', waba_ids: ['102'] }]
})

await t.test('each named fault has its effect', async t => {
  const code = () => control('POST', 'codes').then(({ body }) => String(body.code))
  const exchange = async () => await raw('/v26.0/oauth/access_token', { ...ours, code: await code() })
  const list = () => raw('/v26.0/102/phone_numbers', {}, { bearer: 'EAAfixed' })
  const error = (code: number, more: object = {}) => async (response: Response) => t.match(
    await response.json(),
    { error: { code, ...more } }
  )
  const rows: Array<[fault: object, status: number | null, check?: (response: Response) => unknown]> = [
    [{ fault: 'dropBefore' }, null],
    [{ fault: 'dropAfter' }, null],
    [{ fault: 'badGateway' }, 502, async response => t.match(await response.text(), /^<html>/)],
    [{ fault: 'unreadable' }, 200, async response => await t.rejects(response.json())],
    [
      { fault: 'withoutExpiry' },
      200,
      async response => t.strictSame(Object.keys(Object(await response.json())), ['access_token', 'token_type'])
    ],
    [
      { fault: 'withoutToken' },
      200,
      async response => t.strictSame(Object.keys(Object(await response.json())), ['token_type', 'expires_in'])
    ],
    [{ fault: 'extraFields' }, 200, async response => t.match(await response.json(), { future_field: {} })],
    [{ fault: 'unknownEnums' }, 200, async response => t.match(await response.json(), { token_type: 'bearer' })],
    [{ fault: 'otherOrder' }, 200],
    [{ fault: 'oddTypes' }, 200, async response => t.match(await response.json(), { expires_in: '5183944' })],
    [{ fault: 'numericTargets' }, 200, async response => t.match(await response.json(), { expires_in: 5183944 })],
    [{ fault: 'oversized' }, 200, async response => t.ok((await response.text()).length > 4_000_000)],
    [{ fault: 'redirect' }, 302, response => t.equal(response.headers.get('location'), 'https://elsewhere.example/')],
    [{ fault: 'redirect', location: '/x' }, 302, response => t.equal(response.headers.get('location'), '/x')],
    [{ fault: 'down' }, 500, error(2, { is_transient: true })],
    [{ fault: 'down', status: 503 }, 503, error(2)],
    [{ fault: 'throttled' }, 429, error(80007)],
    [
      { fault: 'throttled', code: 4 },
      429,
      response => t.match(JSON.parse(response.headers.get('x-app-usage') ?? ''), { call_count: 100 })
    ],
    [{ fault: 'throttled', code: 80008, usage: { business: 99, waba_id: '102', regain_minutes: 7 } }, 429, response => {
      t.match(
        JSON.parse(response.headers.get('x-business-use-case-usage') ?? ''),
        { 102: [{ call_count: 99, estimated_time_to_regain_access: 7 }] }
      )
    }],
    [{ fault: 'tokenRefused' }, 401, async response => t.notOk('error_subcode' in Object(await response.json()).error)],
    ...tokenSubcodes.map((subcode): [object, number, (response: Response) => unknown] => [
      { fault: 'tokenRefused', subcode, status: 400 }, 400, error(190, { error_subcode: subcode })
    ]),
    [{ fault: 'registerRefused', code: 133000 }, 500, error(133000)],
    [{ fault: 'registerRefused', code: 133004 }, 503, error(133004)],
    [{ fault: 'registerRefused', code: 100 }, 400, error(100, { error_subcode: 2388092 })],
    [{ fault: 'callbackRefused' }, 400, error(2200, { message: /HTTP Message = Forbidden$/ })],
    [{ fault: 'callbackRefused', message: 'curl_errno = 28' }, 400, error(2200, { message: /: curl_errno = 28$/ })],
    [{ fault: 'error' }, 400, error(100)],
    [
      { fault: 'error', status: 403, code: 368, subcode: 5, message: 'No.' },
      403,
      error(368, { error_subcode: 5, message: 'No.' })
    ],
    [
      { fault: 'oddError', code: 190, subcode: 463 },
      400,
      async response => t.match(await response.json(), { error: { code: '190', error_subcode: '463' } })
    ],
    [{ fault: 'bareError' }, 400, async response => t.strictSame(await response.json(), { error: {} })],
    [{ patch: { expires_in: 1 }, without: ['token_type'], headers: { 'x-a': 'b' } }, 200, async response => {
      t.match(response.headers.get('x-a'), 'b')
      const body = Object(await response.json())
      t.match(body, { expires_in: 1 })
      t.notOk('token_type' in body)
    }]
  ]
  t.strictSame([...new Set(rows.map(([fault]) => Object(fault).fault))].filter(name => name), faultNames, 'all of them')
  for (const [fault, status, check] of rows) {
    t.strictSame(await control('POST', 'faults', { route: 'access_token', ...fault }), done)
    if (status === null) await t.rejects(exchange())
    else {
      const response = await exchange()
      t.equal(response.status, status, JSON.stringify(fault))
      await check?.(response)
    }
    t.equal((await exchange()).status, 200, 'once')
  }

  for (const route of routes) t.strictSame(await control('POST', 'faults', { route, fault: 'down' }), done)
  await control('DELETE', 'faults')
  await control('POST', 'faults', { route: 'phone_numbers', fault: 'unknownEnums' })
  t.match(
    await (await list()).json(),
    {
      data: [
        { id: '106', quality_rating: 'NEW_IN_2030', throughput: { level: 'NEW_IN_2030' }, verified_name: 'Lucky Shrub' }
      ]
    }
  )
  const { body: { access_token: wide } } = await control('POST', 'tokens', { waba_ids: ['1', '2'] })
  for (const ids of [['2', '1'], ['1', '2']]) {
    if (ids[0] === '2') await control('POST', 'faults', { route: 'debug_token', fault: 'otherOrder' })
    t.match(await (await debug(wide)).json(), { data: { granular_scopes: [{ target_ids: ids }] } })
  }
  await control('POST', 'faults', { route: 'debug_token', without: ['data.expires_at', 'data.scopes'] })
  const { data } = Object(await (await debug(wide)).json())
  t.strictSame(['expires_at', 'scopes', 'app_id'].filter(key => key in data), ['app_id'])

  await control('POST', 'faults', { route: 'phone_numbers', fault: 'down', times: 2 })
  await control('POST', 'faults', { route: 'phone_numbers', fault: 'badGateway', times: 'always' })
  const statuses: number[] = []
  for (let i = 0; i < 5; i++) statuses.push((await list()).status)
  t.strictSame(statuses, [500, 500, 502, 502, 502])
  t.strictSame(await control('DELETE', 'faults'), done)
  const startedAt = performance.now()
  await control('POST', 'faults', { route: 'phone_numbers', latency_ms: 60 })
  t.equal((await list()).status, 200)
  t.ok(performance.now() - startedAt >= 55)

  for (const processed of [true, false]) {
    const text = await code()
    await control('POST', 'faults', { route: 'access_token', fault: 'down', processed })
    await raw('/v26.0/oauth/access_token', { ...ours, code: text })
    t.equal(graph.state.codes.get(text)?.used, processed)
  }
})
