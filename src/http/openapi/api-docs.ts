import helmet from '@fastify/helmet'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import Fastify, { type FastifyInstance } from 'fastify'
import fp from 'fastify-plugin'
import { RouteNotFound } from '../../errors.js'
import { createSharedWork } from '../../waiting/shared-work.js'

const ASSETS = [
  'index.css',
  'swagger-ui.css',
  'swagger-ui-bundle.js',
  'swagger-ui-standalone-preset.js',
  'swagger-initializer.js',
  'favicon-16x16.png',
  'favicon-32x32.png'
]
const PATHS = ['', '/', '/json', '/yaml', '/static/index.html', ...ASSETS.map((name) => `/static/${name}`)]

declare module 'fastify' {
  interface FastifyInstance {
    /** The OpenAPI document of this scope. */
    openapiDocument: FastifyInstance['swagger']
  }
}

interface Page { status: number, headers: Record<string, string>, body: Buffer }

type Pages = Map<string, Page>

/** Serves Swagger UI and the OpenAPI document of this scope under /docs, from memory. */
async function apiDocs (fastify: FastifyInstance): Promise<void> {
  const rendering = createSharedWork<Pages>()
  // Rendered at the first request: a start would wait for it, and most processes never serve /docs.
  let pages: Pages | undefined

  await fastify.register(async (scope) => {
    await scope.register(helmet, {
      contentSecurityPolicy: {
        directives: {
          // Swagger UI adds a style element of its own.
          'style-src': ["'self'", "'unsafe-inline'"],
          'font-src': ["'self'"],
          'frame-ancestors': ["'none'"],
          // The service itself has no TLS: a proxy ends it.
          'upgrade-insecure-requests': null
        }
      },
      xFrameOptions: { action: 'deny' },
      // That proxy owns the host name, and this header concerns the whole host.
      strictTransportSecurity: false
    })
    const config = { swaggerTransform: false as const }
    for (const url of ['/docs', '/docs/*']) {
      scope.get<{ Params: { '*'?: string } }>(url, { config }, async ({ params: { '*': rest } }, reply) => {
        pages ??= (await rendering('docs', async () => await render(fastify), [])).result
        const page = pages.get(rest === undefined ? '' : `/${rest}`)
        if (page === undefined) throw new RouteNotFound()
        return reply.code(page.status).headers(page.headers).send(page.body)
      })
    }
  })
}

export default fp(apiDocs, { name: 'api-docs' })

/**
 * Renders each page once. All answers share one buffer. An answer with its own buffer or file would keep it
 * open while its client does not read.
 */
async function render (fastify: FastifyInstance): Promise<Pages> {
  const base = `${fastify.prefix}/docs`
  const pages: Pages = new Map()
  const renderer = Fastify()
  await renderer.register(swagger)
  await renderer.register(swaggerUi, {
    routePrefix: base,
    transformSpecification: () => fastify.openapiDocument()
  })
  for (const path of PATHS) {
    const { statusCode: status, headers, rawPayload: body } = await renderer.inject(base + path)
    const kept = ['content-type', 'location']
      .flatMap((name) => headers[name] === undefined ? [] : [[name, headers[name]]])
    pages.set(path, { status, headers: Object.fromEntries(kept), body })
  }
  await renderer.close()
  return pages
}
