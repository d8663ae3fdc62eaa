import t from '../run/tap.js'
import { openapiService } from './openapi-service.js'
import { buildTestApp } from '../helper.js'

const { fastify } = await openapiService(t)

await t.test('the documentation pages and their assets are served', async (t) => {
  const page = await fastify.inject('/docs')
  t.equal(page.statusCode, 200)
  t.match(page.headers['content-type'], 'text/html')
  const assets = [...page.body.matchAll(/(?:href|src)="([^"]+)"/g)].map(([, path]) => String(path))
  t.equal(assets.length, 7)
  const types = { css: 'text/css', js: 'application/javascript', png: 'image/png' }
  for (const path of assets) {
    const { statusCode, headers, rawPayload } = await fastify.inject(path)
    t.equal(statusCode, 200, path)
    t.match(headers['content-type'], Object.entries(types).find(([extension]) => path.endsWith(extension))?.[1])
    t.ok(rawPayload.length > 100, path)
  }
  // With a trailing slash the page links to its assets by relative URLs.
  t.equal((await fastify.inject('/docs/')).body.replaceAll('"./static/', '"/docs/static/'), page.body)
  t.match((await fastify.inject('/docs/yaml')).body, /^openapi: 3\.1\.0\n/)
  t.match(await fastify.inject('/docs/static/index.html'), { statusCode: 302, headers: { location: '/docs/' } })
  t.equal((await fastify.inject({ method: 'HEAD', url: '/docs/json' })).statusCode, 200)
  for (const path of ['nope.js', '', '../package.json', '%2e%2e/package.json', '/swagger-ui.css']) {
    t.equal((await fastify.inject(`/docs/static/${path}`)).statusCode, 404, path)
  }
})

await t.test('the documentation pages run no foreign script and refuse frames', async (t) => {
  for (const path of [
    '/docs', '/docs/', '/docs/json', '/docs/static/swagger-ui-bundle.js', '/docs/static/index.html'
  ]) {
    const { headers } = await fastify.inject(path)
    const policy = String(headers['content-security-policy']).split(';')
    for (const directive of [
      "default-src 'self'", "script-src 'self'", "script-src-attr 'none'", "object-src 'none'", "base-uri 'self'",
      "frame-ancestors 'none'"
    ]) {
      t.ok(policy.includes(directive), `${path} ${directive}`)
    }
    t.notMatch(headers['content-security-policy'], 'upgrade-insecure-requests', 'a service without TLS must work')
    t.match(headers, {
      'x-frame-options': 'DENY',
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'no-referrer'
    })
    t.notOk('strict-transport-security' in headers)
  }
  t.notOk('content-security-policy' in (await fastify.inject('/health/live')).headers, 'other routes return no page')
})

await t.test('without API_DOCS every path under /docs answers 404', async (t) => {
  const { app } = await buildTestApp(t, { API_DOCS: false })
  for (const path of ['/docs', '/docs/', '/docs/json', '/docs/yaml', '/docs/static/swagger-ui-bundle.js']) {
    t.match((await app.inject(path)).json(), { status: 404, code: 'ROUTE_NOT_FOUND' }, path)
  }
  t.equal((await app.inject('/health/ready')).statusCode, 200)
})
