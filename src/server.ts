import { setTimeout as delay } from 'node:timers/promises'
import closeWithGrace, { type Signals } from 'close-with-grace'
import type { FastifyInstance } from 'fastify'
import { buildApp } from './app.js'
import { describeForTerminal } from './logger.js'
import { hasGeneratedJwtSecret } from './settings/local-mode.js'

/** The time for a close without a call to Meta in progress. */
const CLOSE_MARGIN_MS = 10_000
const TOKEN_LIFETIME_S = 12 * 60 * 60

const starting = start()
let exiting: NodeJS.Timeout | undefined
// Installed before the start ends: a signal waits for that, then closes what it opened, such as PostgreSQL.
// No logger of its own: ours hides the values in an error.
// Not on 'beforeExit': that would end a failed start with exit code 0.
closeWithGrace({ delay: false, logger: undefined, skip: ['beforeExit'] }, async ({ err, signal }) => {
  if (signal !== undefined) ignore(signal, 'SIGINT', 'SIGTERM')
  exitWithin(CLOSE_MARGIN_MS)
  const fastify = await starting
  if (err === undefined) await leave(fastify, signal)
  else fastify.log.fatal({ err }, 'closing on an error that nobody caught')
  // A call to Meta may be in progress, and storing its token may wait for the database.
  exitWithin(fastify.onboarding.closeTimeoutMs + CLOSE_MARGIN_MS)
  await fastify.close()
})

try {
  await starting
} catch (err) {
  process.stderr.write(`The service did not start: ${describeForTerminal(err)}\n`)
  process.exitCode = 1
}

/** Keeps further signals from ending the process: Ctrl-C arrives twice, from the terminal and from npm. */
function ignore (...signals: Signals[]): void {
  for (const signal of signals) process.removeAllListeners(signal).on(signal, () => {})
}

/** Fails `/health/ready`, and keeps serving for `SHUTDOWN_DELAY_MS`: until the load balancers have noticed. */
async function leave (fastify: FastifyInstance, signal?: Signals): Promise<void> {
  const { SHUTDOWN_DELAY_MS } = fastify.env
  fastify.readiness.leave()
  fastify.log.info(`closing on ${signal}, in ${SHUTDOWN_DELAY_MS} ms`)
  exitWithin(SHUTDOWN_DELAY_MS + CLOSE_MARGIN_MS)
  await delay(SHUTDOWN_DELAY_MS)
}

/** Ends the process after `ms`; replaces the time of an earlier call. */
function exitWithin (ms: number): void {
  clearTimeout(exiting)
  exiting = setTimeout(process.exit, ms, 1)
}

/** Builds the app and listens. Prints first steps when local mode generated the JWT_SECRET. */
async function start (): Promise<FastifyInstance> {
  const fastify = await buildApp()
  const { NODE_ENV, HOST, PORT } = fastify.env
  try {
    await fastify.listen({ port: PORT, host: HOST ?? (NODE_ENV === 'production' ? '0.0.0.0' : '127.0.0.1') })
  } catch (err) {
    await fastify.close()
    throw err
  }
  if (await hasGeneratedJwtSecret(fastify.env)) process.stdout.write(formatWelcome(fastify))
  return fastify
}

/** Formats the first steps: the URL of the docs, two tokens, and commands to paste. */
function formatWelcome (fastify: FastifyInstance): string {
  const origin = fastify.listeningOrigin
  const base = `${origin}/api/v1/tenant`
  const tenant = fastify.auth.mint({ tenantId: 'demo-tenant', userId: 'demo-user' }, TOKEN_LIFETIME_S)
  const admin = fastify.auth.mint({ admin: true, userId: 'demo-admin' }, TOKEN_LIFETIME_S)
  const docs = fastify.env.API_DOCS ? `Docs          ${origin}/docs\n` : ''
  const config = JSON.stringify({
    waba_id: '102290129340398',
    phone_number_id: '106540352242922',
    access_token: 'EAAG-not-a-real-token-1234'
  })
  return `
Local mode, for your own machine. What is generated for it is kept in ${fastify.env.DATA_DIR}.

${docs}Tenant token  ${tenant}
Admin token   ${admin}

Paste these in order: create a configuration, read it masked, read the statistics.

curl -sS -X POST ${base}/config -H 'authorization: Bearer ${tenant}' -H 'content-type: application/json' -d '${config}'
curl -sS ${base}/config -H 'authorization: Bearer ${tenant}'
curl -sS ${base}/admin/configs/stats -H 'authorization: Bearer ${admin}'

`
}
