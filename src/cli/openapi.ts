import { mkdir, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import Fastify from 'fastify'
import { httpApi } from '../app.js'
import auth from '../auth/auth.js'
import closing from '../closing.js'
import outbound from '../outbound/outbound.js'
import env from '../settings/env.js'
import { readOptions, runCli } from './command.js'

const target = fileURLToPath(new URL('../../docs/openapi.json', import.meta.url))
const USAGE = `Writes the description of the API to ${target}.
  npm run openapi`

await runCli(async () => {
  readOptions({}, USAGE)
  // The description needs no database, and does not depend on the settings.
  const fastify = Fastify()
  const key = Buffer.alloc(32).toString('base64')
  await fastify.register(env, { env: { JWT_SECRET: '-'.repeat(32), ENCRYPTION_KEYS: `none:${key}` } })
  await fastify.register(closing)
  await fastify.register(outbound)
  await fastify.register(auth)
  await fastify.register(httpApi)
  const { body } = await fastify.inject('/docs/json')
  await mkdir(dirname(target), { recursive: true })
  await writeFile(target, `${JSON.stringify(JSON.parse(body), null, 2)}\n`)
  await fastify.close()
  console.log(`Wrote ${target}`)
})
