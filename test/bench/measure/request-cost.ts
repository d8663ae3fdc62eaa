import type { Request } from 'autocannon'
import type { Server } from '../stage/database.js'
import type { Child } from '../stage/process.js'
import { fire } from './drive.js'
import type { Cost } from './rounds.js'

/** The mean cost of these requests to a child that listens at `origin`. */
export async function requestCost (child: Child, origin: string, server: Server, requests: Request[]): Promise<Cost> {
  const before = { node: await child.ask('cpu'), postgres: server.cpu() }
  await fire(origin, requests)
  const after = { node: await child.ask('cpu'), postgres: server.cpu() }
  return {
    node: (after.node - before.node) / requests.length,
    postgres: (after.postgres - before.postgres) / requests.length
  }
}
