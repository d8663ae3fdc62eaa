import { spawn } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildApp } from '../../app.js'
import { startEmbedded } from '../../database/embedded/embedded.js'
import { ensureDataDir } from '../../settings/data-dir.js'
import type { StopAtEnd } from '../command.js'
import { createMeta } from './meta.js'
import { startReceiver } from './receiver.js'

const PROJECT = fileURLToPath(new URL('../../../', import.meta.url))

/** The settings that serve a tenant without a configuration. */
export const fallback = {
  WHATSAPP_PHONE_ID: '100000000000001',
  WHATSAPP_TOKEN: 'EAAThePlatformsOwnToken',
  WHATSAPP_WABA_ID: '100000000000002',
  VERIFY_TOKEN: 'the-platforms-verify-token',
  CALLBACK_URL: 'https://platform.example/webhooks/whatsapp',
  REDIRECT_URL: 'https://platform.example/oauth/done'
}

/** The account in the Graph stand-in, with the PIN of its number. */
export const account = {
  waba_id: '102290129340398',
  phone_number_id: '106540352242922',
  other_phone_number_id: '106540352242923',
  pin: '246810'
}

export type Stage = Awaited<ReturnType<typeof startStage>>

/** Starts PostgreSQL, the Graph stand-in, a receiver and the service. All are stopped and deleted at the end. */
export async function startStage (stopAtEnd: StopAtEnd, print: (text: string) => void) {
  print('Starting PostgreSQL ...')
  const databaseUrl = await startDatabase(stopAtEnd, print)

  print("Starting a stand-in for Meta's Graph API ...")
  const app = {
    app_id: '670843887433847',
    app_secret: randomBytes(16).toString('hex'),
    require_proof: true,
    redirect_uris: [fallback.REDIRECT_URL]
  }
  const number = { display_phone_number: '+1 631-555-5555', verified_name: 'Acme', pin: account.pin }
  const other = { display_phone_number: '+1 631-555-5556', verified_name: 'Acme' }
  const phones = [{ id: account.phone_number_id, ...number }, { id: account.other_phone_number_id, ...other }]
  const seed = { apps: [app], wabas: [{ id: account.waba_id, phones }] }
  const graph = await stopAtEnd(...startStandIn(seed))

  print('Starting what the platform runs beside the service ...')
  const secrets = { verifyToken: 'the-verify-token-of-acme', eventsSecret: randomBytes(32).toString('base64') }
  const receiver = await stopAtEnd(startReceiver(secrets), async (receiver) => await receiver.close())

  const settings = {
    LOG_LEVEL: 'error',
    DATABASE_URL: databaseUrl,
    MIGRATE_ON_START: true,
    JWT_SECRET: randomBytes(48).toString('base64'),
    ENCRYPTION_KEYS: `demo:${randomBytes(32).toString('base64')}`,
    OAUTH_REDIRECT_URIS: fallback.REDIRECT_URL,
    GRAPH_API_BASE_URL: graph.url,
    FB_APP_ID: app.app_id,
    FB_APP_SECRET: app.app_secret,
    EVENTS_WEBHOOK_URL: `${receiver.url}/events`,
    EVENTS_WEBHOOK_SECRET: secrets.eventsSecret,
    ...fallback
  }
  const start = async () => {
    print('Starting the service ...')
    const service = await stopAtEnd(buildApp(settings), async (service) => await service.close())
    await service.listen({ port: 0, host: '127.0.0.1' })
    return service
  }
  const service = await start()
  const metaControl = createMeta(graph.url)
  await metaControl.enterWebhook(app, `${service.listeningOrigin}/api/v1/tenant/onboard/account-update`)
  return {
    databaseUrl,
    service,
    meta: metaControl,
    waitForEvents: receiver.waitForEvents,
    /** The URL for acme's messages, and the token by which it is verified. */
    callback: { callback_url: `${receiver.url}/messages`, verify_token: secrets.verifyToken },
    /** Starts another service, once `service` is closed. */
    startAgain: start
  }
}

async function startDatabase (stopAtEnd: StopAtEnd, print: (text: string) => void): Promise<string> {
  // Not made with mkdtemp, whose mode is 0700: PostgreSQL's user, who is not root, must be able to enter it.
  const path = join(tmpdir(), `whatsapp-tenant-config-demo-${randomUUID()}`)
  const dir = await stopAtEnd(ensureDataDir(path), async () => await rm(path, { recursive: true }))
  const { url } = await stopAtEnd(startEmbedded(dir, { info: print, warn: print }), async (database) => {
    // A link to another directory if that user cannot enter this one.
    const files = await realpath(join(dir, 'postgres'))
    await database.stop()
    await rm(files, { recursive: true })
  })
  return url
}

/**
 * Starts the Graph stand-in, TypeScript of the tests, with their loader.
 *
 * @param seed as test/graph/seed.ts describes it
 * @returns the start, and the function that stops it
 */
export function startStandIn (seed: object): [Promise<{ url: string }>, () => Promise<void>] {
  const main = join('test', 'graph', 'main.ts')
  const child = spawn(process.execPath, ['--import', '@tapjs/typescript/import', main, '--seed', '-', '--port', '0'], {
    cwd: PROJECT,
    // Not in the terminal's process group: Ctrl-C must not end it before the service.
    detached: true,
    // `npm run typecheck` checks its types.
    env: { ...process.env, TS_NODE_TRANSPILE_ONLY: '1' },
    stdio: ['pipe', 'ignore', 'inherit', 'ipc']
  })
  child.stdin?.end(JSON.stringify(seed))
  const ended = once(child, 'exit')
  const started = new Promise<{ url: string }>((resolve, reject) => {
    child.once('message', (started: { url: string }) => resolve(started))
    ended.then(() => {
      reject(new Error('The Graph stand-in did not start; it needs what `npm ci` installs for development.'))
    }, reject)
  })
  return [started, async () => {
    child.kill()
    await ended
  }]
}
