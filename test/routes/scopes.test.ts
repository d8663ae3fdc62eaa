import t from '../run/tap.js'
import { base, client, config, configs, onboard } from './client.js'

const { as, admin, call, rows } = await client(t)
const tenant = as('acme')

await t.test('authentication and authorization precede routing and validation', async (t) => {
  const tooLarge = Buffer.alloc(70_000)
  for (const [method, url, body] of [
    ['GET', config], ['GET', `${config}/full`], ['GET', `${config}/effective`], ['POST', config, { nonsense: 1 }],
    ['POST', config, '{'], ['POST', config, tooLarge], ['PUT', config, []], ['DELETE', config],
    ['GET', `${config}?x=1`], ['POST', `${config}/activate`, 'x'], ['POST', `${config}/deactivate`],
    ['POST', onboard, {}], ['POST', `${onboard}/start`, {}], ['POST', `${onboard}/resume`, []], ['GET', base],
    ['GET', `${base}/`], ['GET', `${base}/nowhere`], ['PATCH', config, {}], ['OPTIONS', config], ['TRACE', config],
    ['PROPFIND', config], ['GET', `${config}/full/more`], ['POST', `${config}/full`], ['GET', onboard],
    ['GET', `${base}/../tenant/config`], ['QUERY', config]
  ] as const) {
    t.equal((await call({}, method, url, body)).is, '401 UNAUTHENTICATED', `${method} ${url}`)
    t.equal((await call(admin, method, url, body)).is, '403 TENANT_CLAIM_INVALID', `${method} ${url}`)
  }
  for (const [method, url] of [
    ['GET', `${configs}/all`], ['GET', `${configs}/all?limit=0`], ['GET', `${configs}/stats`],
    ['DELETE', `${configs}/delete-all`], ['DELETE', `${configs}/delete-tenant/acme`],
    ['GET', `${configs}/effective/acme`], ['GET', `${configs}/effective/a%00`],
    ['DELETE', `${configs}/delete-tenant/${'x'.repeat(2000)}`], ['GET', `${base}/admin`], ['GET', `${base}/admin/`],
    ['GET', `${configs}/nowhere`], ['POST', `${configs}/all`], ['GET', `${configs}/delete-all`],
    ['PATCH', `${configs}/stats`], ['OPTIONS', `${configs}/all`]
  ] as const) {
    t.equal((await call({}, method, url)).is, '401 UNAUTHENTICATED', `${method} ${url}`)
    t.equal((await call(tenant, method, url)).is, '403 FORBIDDEN', `${method} ${url}`)
  }
  t.same(await rows(), [])
})

await t.test('an unknown route answers 404, after authentication under the base path', async (t) => {
  for (const [who, method, url] of [
    [tenant, 'GET', base], [tenant, 'GET', `${base}/nowhere`], [tenant, 'PATCH', config], [tenant, 'OPTIONS', config],
    [tenant, 'POST', `${config}/full`], [tenant, 'PUT', onboard], [tenant, 'GET', `${onboard}/start`],
    [tenant, 'GET', `${onboard}/resume`], [tenant, 'GET', `${config}/activate`],
    [tenant, 'GET', `${config}/effective/acme`], [admin, 'GET', `${configs}/effective`],
    [tenant, 'GET', `${config}//full`], [tenant, 'PROPFIND', config], [tenant, 'QUERY', config], [{}, 'QUERY', '/'],
    [admin, 'GET', `${base}/admin`], [admin, 'GET', `${configs}`], [admin, 'POST', `${configs}/all`],
    [admin, 'GET', `${configs}/delete-all`], [admin, 'DELETE', `${configs}/delete-tenant`],
    [admin, 'GET', `${configs}/delete-tenant/acme`], [{}, 'GET', '/'], [{}, 'GET', '/api/v1'],
    [{}, 'GET', '/api/v1/tenants'], [tenant, 'GET', '/api/v2/tenant/config'], [{}, 'GET', '/API/V1/TENANT/CONFIG'],
    [{}, 'GET', `/${config}`], [{}, 'GET', '/api/v1/tenant%2Fconfig'], [{}, 'POST', '/health/live'],
    [{}, 'GET', '/health'], [{}, 'GET', '/favicon.ico'], [{}, 'GET', '/.env']
  ] as const) t.equal((await call(who, method, url)).is, '404 ROUTE_NOT_FOUND', `${method} ${url}`)
  t.equal((await call({}, 'GET', '/%zz')).is, '404 ROUTE_NOT_FOUND', 'an invalid URL')
  for (const url of ['/api/v1/tenant/%zz', '/api/v1/tenant/config/%ff']) {
    t.equal((await call({}, 'GET', url)).is, '401 UNAUTHENTICATED', `${url} without a token`)
    t.equal((await call(tenant, 'GET', url)).is, '400 VALIDATION_FAILED', url)
  }
})

await t.test('the health routes answer 200 without a token', async (t) => {
  for (const url of ['/health/live', '/health/ready']) {
    const { is, body } = await call({}, 'GET', url)
    t.strictSame([is, body], ['200', { status: 'ok' }])
    t.equal((await call({}, 'HEAD', url)).is, '200')
  }
})
