import closeWithGrace from 'close-with-grace'
import type { FastifyInstance } from 'fastify'
import { buildApp } from './app.js'
import { hasGeneratedJwtSecret } from './settings/local-mode.js'
import { describeForTerminal } from './logger.js'

/** How long a close may take in which nothing waits for Meta. */
const CLOSE_MARGIN_MS = 10_000
const TOKEN_LIFETIME_S = 12 * 60 * 60

const starting = start()
let exiting: NodeJS.Timeout | undefined
// Before anything is opened: a signal during the start waits for its end, so that what it opened, PostgreSQL above all, is closed.
// Without a logger of its own: only ours knows what of an error may be shown.
// On 'beforeExit' it would end a start that failed with exit code 0.
closeWithGrace({ delay: false, logger: undefined, skip: ['beforeExit'] }, async ({ err, signal }) => {
  // A terminal and npm both pass the same Ctrl-C on: the second one is no wish to end at once.
  if (signal !== undefined) process.removeAllListeners(signal).on(signal, () => {})
  exitWithin(CLOSE_MARGIN_MS)
  const fastify = await starting
  // One call to Meta may be under way, and the token that it gives may have to wait for the database.
  exitWithin(fastify.onboarding.closeTimeoutMs + CLOSE_MARGIN_MS)
  if (err === undefined) fastify.log.info(`closing on ${signal}`)
  else fastify.log.fatal({ err }, 'closing on an error that nobody caught')
  await fastify.close()
})

try {
  await starting
} catch (err) {
  process.stderr.write(`The service did not start: ${describeForTerminal(err)}\n`)
  process.exitCode = 1
}

/** Ends the process after so many milliseconds, in place of what was said before. */
function exitWithin (ms: number): void {
  clearTimeout(exiting)
  exiting = setTimeout(process.exit, ms, 1)
}

/** Builds, listens and, where local mode generated the JWT_SECRET, prints how to begin. */
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

/** What local mode prints: where the documents are, tokens that work, and lines to paste. */
function formatWelcome (fastify: FastifyInstance): string {
  const origin = fastify.listeningOrigin
  const base = `${origin}/api/v1/tenant`
  const tenant = fastify.auth.mint({ tenantId: 'demo-tenant', userId: 'demo-user' }, TOKEN_LIFETIME_S)
  const admin = fastify.auth.mint({ admin: true, userId: 'demo-admin' }, TOKEN_LIFETIME_S)
  const docs = fastify.env.API_DOCS ? `Docs          ${origin}/docs\n` : ''
  const config = JSON.stringify({ waba_id: '102290129340398', phone_number_id: '106540352242922', access_token: 'EAAG-not-a-real-token-1234' })
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
