import t from '../run/tap.js'
import * as errors from '../../src/errors.js'
import { openapiService, partsOf } from './openapi-service.js'
import { client, config, configs, onboard, resolve, serviceKeys } from '../routes/client.js'
import { bearer } from '../service-keys/keys-client.js'

const { document, operations, components, examplesOf, assertMatches, assertDescribed } = await openapiService(t)

await t.test('every example matches its schema', async (t) => {
  const parts = operations.flatMap(({ operation }) => Object.values(partsOf(operation)).flat())
  for (const [where, part] of parts) {
    for (const example of examplesOf(part)) assertMatches(t, part.schema, example, where)
  }
})

await t.test('every error has an example that equals its answer', async (t) => {
  const problemByCode = new Map<string, object>(
    errors.errorClasses.map((ErrorClass) => new ErrorClass()).map(({ code, message, statusCode }) => [
      code, { detail: message, status: statusCode }
    ])
  )
  const described = new Set<string>()
  for (const { operation: { operationId, responses } } of operations) {
    for (const [status, { description, content = {} }] of Object.entries(responses).filter(
      ([status]) => Number(status) >= 400
    )) {
      t.strictSame(Object.keys(content), ['application/problem+json'])
      for (const [code, { value }] of Object.entries(content['application/problem+json']?.examples ?? {})) {
        described.add(code)
        t.match(
          value,
          {
            code,
            status: Number(status),
            type: 'about:blank',
            title: String,
            request_id: String,
            ...problemByCode.get(code)
          },
          `${operationId} ${code}`
        )
        t.match(description, code)
      }
    }
    t.ok('400' in responses && '500' in responses, operationId)
  }
  // No route answers these: an unknown route, and an invalid request.
  const undescribed = [
    'EXPECTATION_FAILED', 'HEADERS_TOO_LARGE', 'MALFORMED_REQUEST', 'REQUEST_TIMEOUT', 'ROUTE_NOT_FOUND'
  ]
  t.strictSame([...problemByCode.keys()].filter((code) => !described.has(code)).sort(), undescribed)
})

await t.test('the examples are accepted and returned by the service', async (t) => {
  const { as, admin, call } = await client(t)
  const example = (path: string, method: string) =>
    document.paths[path]?.[method]?.requestBody?.content['application/json']?.example
  const key = await call(admin, 'POST', serviceKeys, example(serviceKeys, 'post'))
  const refused = await call(as('other'), 'POST', onboard, example(onboard, 'post'))
  const answers = {
    createConfig: await call(as('acme', 'user-1'), 'POST', config, example(config, 'post')),
    getFullConfig: await call(as('acme'), 'GET', `${config}/full`),
    getEffectiveConfig: await call(as('acme'), 'GET', `${config}/effective`),
    getTenantEffectiveConfig: await call(admin, 'GET', `${configs}/effective/other`),
    listConfigs: await call(admin, 'GET', `${configs}/all`),
    getStats: await call(admin, 'GET', `${configs}/stats`),
    createServiceKey: key,
    listServiceKeys: await call(admin, 'GET', serviceKeys),
    resolveConfig: await call(bearer(String(key.body['key'])), 'GET', `${resolve}?tenant_id=acme`),
    deleteServiceKey: await call(admin, 'DELETE', `${serviceKeys}/${String(key.body['id'])}`),
    updateConfig: await call(as('acme'), 'PUT', config, example(config, 'put')),
    listVersions: await call(as('acme'), 'GET', `${config}/versions`),
    getVersion: await call(as('acme'), 'GET', `${config}/versions/1`),
    restoreVersion: await call(as('acme'), 'POST', `${config}/versions/1/restore`),
    deleteAllConfigs: await call(admin, 'DELETE', `${configs}/delete-all?confirm=delete-all:1`),
    restoreConfigs: await call(admin, 'POST', `${configs}/restore`, example(`${configs}/restore`, 'post')),
    deleteConfig: await call(as('acme'), 'DELETE', `${config}?x=1`),
    deleteTenantConfig: await call(admin, 'DELETE', `${configs}/delete-tenant/acme`),
    onboardWhatsappClient: refused
  }
  t.strictSame(Object.values(answers).map(({ is }) => is), [
    '201', '200', '200', '200', '200', '200', '201', '200', '200', '204', '200', '200', '200', '200', '200', '200',
    '400 VALIDATION_FAILED', '204', '503 META_APP_NOT_CONFIGURED'
  ])
  for (const [id, { is, headers, body }] of Object.entries(answers)) {
    assertDescribed(t, id, { statusCode: parseInt(is), headers, body })
  }

  const {
    createConfig, getFullConfig, getEffectiveConfig, listConfigs, getStats, listVersions, getVersion, deleteAllConfigs,
    restoreConfigs, deleteConfig, createServiceKey, listServiceKeys, resolveConfig
  } = answers
  for (const [name, { body }] of Object.entries({
    MaskedConfig: createConfig,
    FullConfig: getFullConfig,
    EffectiveConfig: getEffectiveConfig,
    ConfigPage: listConfigs,
    Stats: getStats,
    VersionPage: listVersions,
    Version: getVersion,
    Deleted: deleteAllConfigs,
    Restored: restoreConfigs,
    NewServiceKey: createServiceKey,
    ServiceKeyPage: listServiceKeys,
    ResolvedConfig: resolveConfig,
    Problem: deleteConfig
  })) {
    const { properties = {}, examples = [] } = components.schemas[name] ?? {}
    t.strictSame(Object.keys(body).filter((field) => !(field in properties)), [], name)
    for (const shown of examples) t.strictSame(Object.keys(shown), Object.keys(body), name)
  }
  const secrets = ({ access_token, fb_app_secret, verify_token, refresh_token }: Record<string, unknown>) =>
    ({ access_token, fb_app_secret, verify_token, refresh_token })
  const shown = (name: string) => components.schemas[name]?.examples?.[0] ?? {}
  t.strictSame(secrets(shown('MaskedConfig')), secrets(createConfig.body))
  t.strictSame(secrets(shown('FullConfig')), secrets(getFullConfig.body))
  t.match(listConfigs.body['configs'], [secrets(shown('ConfigPage').configs?.[0] ?? {})])
})
