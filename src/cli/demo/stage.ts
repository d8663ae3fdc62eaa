import { spawn } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildApp } from '../../app.js'
import { ensureDataDir } from '../../data-dir.js'
import { startEmbedded } from '../../db/embedded.js'
import type { Hold } from '../command.js'

const PROJECT = fileURLToPath(new URL('../../../', import.meta.url))

/** What serves a tenant that has no configuration of its own, as `.env` would say it. */
export const fallback = {
  WHATSAPP_PHONE_ID: '100000000000001',
  WHATSAPP_TOKEN: 'EAAThePlatformsOwnToken',
  WHATSAPP_WABA_ID: '100000000000002',
  VERIFY_TOKEN: 'the-platforms-verify-token',
  CALLBACK_URL: 'https://platform.example/webhooks/whatsapp',
  REDIRECT_URL: 'https://platform.example/oauth/done'
}

/** The account that Meta knows. */
const account = { waba_id: '102290129340398', phone_number_id: '106540352242922' }

export type Stage = Awaited<ReturnType<typeof raise>>

/** Starts PostgreSQL, the Graph stand-in and the service; all of it is held, and gone without a trace in the end. */
export async function raise (hold: Hold, print: (text: string) => void) {
  print('Starting PostgreSQL ...')
  const databaseUrl = await database(hold, print)

  print("Starting a stand-in for Meta's Graph API ...")
  const app = { app_id: '670843887433847', app_secret: randomBytes(16).toString('hex'), require_proof: true }
  const waba = { id: account.waba_id, phones: [{ id: account.phone_number_id }] }
  const graph = await hold(...standIn({ apps: [app], wabas: [waba] }))

  const settings = {
    LOG_LEVEL: 'error',
    DATABASE_URL: databaseUrl,
    MIGRATE_ON_START: true,
    JWT_SECRET: randomBytes(48).toString('base64'),
    ENCRYPTION_KEYS: `demo:${randomBytes(32).toString('base64')}`,
    GRAPH_API_BASE_URL: graph.url,
    FB_APP_ID: app.app_id,
    FB_APP_SECRET: app.app_secret,
    ...fallback
  }
  const start = async () => {
    print('Starting the service ...')
    const service = await hold(buildApp(settings), async (service) => await service.close())
    await service.listen({ port: 0, host: '127.0.0.1' })
    return service
  }
  return {
    databaseUrl,
    /** What the login of the account's owner at Meta handed out. */
    login: { code: graph.code, ...account },
    service: await start(),
    /** Starts another service, for after that one is closed. */
    startAgain: start
  }
}

async function database (hold: Hold, print: (text: string) => void): Promise<string> {
  // Made directly under the temporary directory, not with mkdtemp: PostgreSQL's user, who is not root, must be able to enter it.
  const path = join(tmpdir(), `whatsapp-tenant-config-demo-${randomUUID()}`)
  const dir = await hold(ensureDataDir(path), async () => await rm(path, { recursive: true }))
  const { url } = await hold(startEmbedded(dir, { info: print, warn: print }), async (database) => {
    // Where that user cannot enter all the same, this leads elsewhere.
    const files = await realpath(join(dir, 'postgres'))
    await database.stop()
    await rm(files, { recursive: true })
  })
  return url
}

/** Runs the stand-in, which is TypeScript and part of the tests, with the loader that the tests use; `seed` is that of test/graph/seed.ts. */
export function standIn (seed: object): [Promise<{ url: string, code: string }>, () => Promise<void>] {
  const child = spawn(process.execPath, ['--import', '@tapjs/typescript/import', join('test', 'graph', 'main.ts'), '--seed', '-', '--port', '0'], {
    cwd: PROJECT,
    // Out of reach of the terminal's Ctrl-C, which is for us to pass on in time.
    detached: true,
    // Its types are checked elsewhere.
    env: { ...process.env, TS_NODE_TRANSPILE_ONLY: '1' },
    stdio: ['pipe', 'ignore', 'inherit', 'ipc']
  })
  child.stdin?.end(JSON.stringify(seed))
  const ended = once(child, 'exit')
  const started = new Promise<{ url: string, code: string }>((resolve, reject) => {
    child.once('message', (started: { url: string, code: string }) => resolve(started))
    ended.then(() => reject(new Error('The Graph stand-in did not start; it needs what `npm ci` installs for development.')), reject)
  })
  return [started, async () => {
    child.kill()
    await ended
  }]
}
