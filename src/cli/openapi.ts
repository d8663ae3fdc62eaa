import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import Fastify from 'fastify'
import { httpApi } from '../app.js'
import auth from '../plugins/auth.js'
import env from '../plugins/env.js'

const target = fileURLToPath(new URL('../../docs/openapi.json', import.meta.url))

// The routes describe themselves without a database; of the settings nothing shows in the description.
const fastify = Fastify()
await fastify.register(env, { env: { JWT_SECRET: '-'.repeat(32), ENCRYPTION_KEYS: `none:${Buffer.alloc(32).toString('base64')}` } })
await fastify.register(auth)
await fastify.register(httpApi)
await fastify.ready()
await writeFile(target, `${JSON.stringify(fastify.swagger(), null, 2)}\n`)
await fastify.close()
console.log(`Wrote ${target}`)
