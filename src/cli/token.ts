import { parseArgs } from 'node:util'
import Fastify from 'fastify'
import auth from '../plugins/auth.js'
import env from '../plugins/env.js'

const USAGE = `Prints a token for the API, signed with JWT_SECRET.
  npm run -s token -- --tenant <id> [--user <sub>] [--expires <seconds>]
  npm run -s token -- --admin [--tenant <id>] [--user <sub>] [--expires <seconds>]`

const { values: { tenant, admin, user, expires } } = parseArgs({
  options: {
    tenant: { type: 'string' },
    admin: { type: 'boolean', default: false },
    user: { type: 'string' },
    expires: { type: 'string', default: '3600' }
  }
})

if ((tenant === undefined && !admin) || !/^[1-9]\d{0,9}$/.test(expires)) {
  console.error(USAGE)
  process.exitCode = 1
} else {
  const fastify = Fastify()
  await fastify.register(env)
  await fastify.register(auth)
  console.log(fastify.auth.mint({ tenantId: tenant, admin, userId: user }, Number(expires)))
  await fastify.close()
}
