import Fastify from 'fastify'
import auth from '../auth/auth.js'
import { isUsableSubject } from '../auth/claims.js'
import closing from '../closing.js'
import outbound from '../outbound/outbound.js'
import env from '../settings/env.js'
import { isTenantId } from '../tenant-configs/tenant-id.js'
import { readOptions, runCli } from './command.js'
import { readCommandSettings } from './command-settings.js'

const USAGE = `Prints a token for the API, signed with JWT_SECRET.
  npm run -s token -- --tenant <id> [--user <sub>] [--scope <scopes>] [--expires <seconds>]
  npm run -s token -- --admin [--tenant <id>] [--user <sub>] [--scope <scopes>] [--expires <seconds>]
  npm run -s token -- --auditor [--user <sub>] [--expires <seconds>]`

await runCli(async () => {
  const { tenant, admin = false, auditor = false, user, scope, expires = '3600' } = readOptions({
    tenant: { type: 'string' },
    admin: { type: 'boolean' },
    auditor: { type: 'boolean' },
    user: { type: 'string' },
    scope: { type: 'string' },
    expires: { type: 'string' }
  }, USAGE)
  const isUsable = (admin || auditor || tenant !== undefined) &&
    (tenant === undefined || isTenantId(tenant)) &&
    isUsableSubject(user) &&
    /^[1-9]\d{0,9}$/.test(expires)
  if (!isUsable) throw new Error(USAGE)

  const fastify = Fastify()
  await fastify.register(env, { env: await readCommandSettings() })
  await fastify.register(closing)
  await fastify.register(outbound)
  await fastify.register(auth)
  console.log(fastify.auth.mint({ tenantId: tenant, admin, auditor, userId: user, scope }, Number(expires)))
  await fastify.close()
})
