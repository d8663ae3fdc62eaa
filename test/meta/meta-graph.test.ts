import Fastify from 'fastify'
import fp from 'fastify-plugin'
import t from '../run/tap.js'
import closing from '../../src/closing.js'
import metaGraph from '../../src/meta/meta-graph.js'
import outbound from '../../src/outbound/outbound.js'
import env from '../../src/settings/env.js'
import { createVault } from '../../src/vault/vault.js'
import { app, standIn } from './wire.js'

await t.test('the plugin reads its settings from fastify.env', async t => {
  const { meta } = await standIn(t)
  const fastify = Fastify()
  t.teardown(() => fastify.close())
  await fastify.register(env, {
    env: {
      NODE_ENV: 'test',
      DATABASE_URL: 'embedded',
      JWT_SECRET: 'x'.repeat(32),
      ENCRYPTION_KEYS: `k1:${Buffer.alloc(32, 1).toString('base64')}`,
      GRAPH_API_BASE_URL: `${meta.url}/`,
      GRAPH_API_VERSION: 'v25.0'
    }
  })
  await fastify.register(closing)
  await fastify.register(outbound)
  await fastify.register(
    fp(
      async (fastify) => { fastify.decorate('vault', createVault({ keyRing: fastify.env.ENCRYPTION_KEYS })) },
      { name: 'vault' }
    )
  )
  await fastify.register(metaGraph)
  await fastify.metaGraph.exchangeCode(app, { code: meta.state.issueCode({ app_id: app.id }) })
  t.equal(meta.requests[0]?.path, '/v25.0/oauth/access_token')
})
