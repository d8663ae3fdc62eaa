import { randomBytes } from 'node:crypto'
import type { EnvSource } from '../../../src/app.js'
import type { StopAtEnd } from '../../../src/cli/command.js'
import { newKey, withoutLimits } from '../../helper.js'
import { startServer, type Server } from './database.js'
import { start, type Child } from './process.js'
import { seed } from './seed.js'
import { signer } from './token.js'

/** The default number of tenants. */
export const TENANTS = 100_000
/** The first tenants. The floor writes to the others, unsealed, which no service could open. */
export const SEALED = TENANTS / 2

/** The server, the tenants and the child processes of the measurements. */
export interface Stage {
  server: Server
  settings: EnvSource
  /** Their ids, in the order of their rows. */
  tenants: string[]
  /** An authorization header with these claims. */
  authorize: (claims: Record<string, string>) => { authorization: string }
  /** Starts one of the children, with other settings if given. */
  start: (name: string, settings?: EnvSource, nodeOptions?: string[]) => Promise<Child>
}

/** Starts PostgreSQL and fills a database with tenants. */
export async function setUp (stopAtEnd: StopAtEnd): Promise<Stage> {
  const server = await stopAtEnd(startServer(), async (server) => await server.close())
  const [keyRing, secret] = [`b1:${newKey()}`, randomBytes(48).toString('base64')]
  const url = await server.database()
  const settings = {
    NODE_ENV: 'production',
    LOG_LEVEL: 'warn',
    DATABASE_URL: url,
    JWT_SECRET: secret,
    ENCRYPTION_KEYS: keyRing,
    // The requests of a measurement come from one address.
    ...withoutLimits,
    // No request reaches Meta.
    GRAPH_API_BASE_URL: 'http://127.0.0.1:9'
  }
  return {
    server,
    settings,
    tenants: await seed(url, keyRing, TENANTS),
    authorize: signer(secret),
    start: async (name, own = {}, nodeOptions) =>
      await stopAtEnd(start(name, { ...settings, ...own }, nodeOptions), async (child) => await child.end())
  }
}
