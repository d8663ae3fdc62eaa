import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { childEnv } from '../helper.js'
import { send, type Call } from './traffic.js'

/** The loader of a build, in a process of its own. */
export interface Loader {
  name: string
  /** The callback_url that the row of a tenant serves; null when no row serves the tenant. */
  ask: (tenant: string) => Promise<unknown>
  stop: () => Promise<void>
}

/** A change must be visible everywhere within this time. */
const MAX_MS = 1000
const PAUSE_MS = 50
const TENANT = 'fresh'

/** Starts the loader of a build. */
export async function startLoader (dir: string, settings: Record<string, string>): Promise<Loader> {
  const file = fileURLToPath(new URL('./loader-process.ts', import.meta.url))
  const child = spawn(process.execPath, [...process.execArgv, file, join(dir, 'dist/app.js')], {
    env: childEnv(settings), stdio: ['pipe', 'pipe', 'inherit']
  })
  const ended = once(child, 'exit')
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const nextLine = async () => {
    const { value, done } = await lines.next()
    if (done === true) throw new Error(`the loader of ${dir} has ended`)
    return String(value)
  }
  await nextLine()
  return {
    name: dir,
    async ask (tenant) {
      child.stdin.write(`${tenant}\n`)
      return JSON.parse(await nextLine())
    },
    async stop () {
      child.stdin.end()
      await ended
    }
  }
}

type MakeCall = (method: string, path: string, tenant: string, body?: object) => Call

/**
 * Changes one tenant through each service in turn, until `stop`: another value, off, on. After each acknowledged change
 * asks every loader and every service until all show it. Both lists may grow.
 */
export function startFreshness (origins: string[], loaders: Loader[], call: MakeCall) {
  const stopped = new AbortController()
  const faults: string[] = []
  let changes = 0
  let longest = 0
  let callback_url = 'https://fresh.example.com/'

  async function change (origin: string, method: string, path: string, body?: object): Promise<void> {
    const { status, text } = await send(origin, call(method, path, TENANT, body))
    if (status >= 300 || status === 0) throw new Error(`${method} ${path} answered ${status} ${text}`)
  }

  /** What a service says that it serves. */
  async function servedBy (origin: string): Promise<unknown> {
    const { status, text } = await send(origin, call('GET', '/config/effective', TENANT))
    if (status !== 200) return `${status} ${text}`
    const { decision, values } = JSON.parse(text)
    return decision === 'serve' ? values.callback_url.value : null
  }

  async function assertSeen (expected: string | null, what: string): Promise<void> {
    const began = performance.now()
    const readers = [
      ...loaders.map(({ name, ask }) => ({ name: `loader of ${name}`, read: async () => await ask(TENANT) })),
      ...origins.map((origin) => ({ name: origin, read: async () => await servedBy(origin) }))
    ]
    await Promise.all(readers.map(async ({ name, read }) => {
      for (;;) {
        const asked = performance.now() - began
        const found = await read()
        if (found === expected) break
        if (asked > MAX_MS) {
          faults.push(`${name} does not show ${what}, but ${String(found)}`)
          break
        }
        await delay(5)
      }
      longest = Math.max(longest, performance.now() - began)
    }))
    changes++
  }

  async function work (): Promise<void> {
    await change(origins[0] ?? '', 'POST', '/config', { callback_url, access_token: 'a-token', waba_id: 'fresh-waba' })
    await assertSeen(callback_url, 'a new tenant')
    for (let turn = 0; !stopped.signal.aborted; turn++) {
      const origin = origins[turn % origins.length] ?? ''
      callback_url = `https://${randomBytes(8).toString('hex')}.example.com/`
      await change(origin, 'PUT', '/config', { callback_url, access_token: randomBytes(16).toString('hex') })
      await assertSeen(callback_url, `a write through ${origin}`)
      await change(origin, 'POST', '/config/deactivate')
      await assertSeen(null, `that ${origin} turned the tenant off`)
      await change(origins.at(-1) ?? '', 'POST', '/config/activate')
      await assertSeen(callback_url, 'that the tenant is on again')
      await delay(PAUSE_MS)
    }
  }

  const working = work().catch((err: unknown) => { faults.push(String(err)) })
  return {
    async stop (): Promise<{ changes: number, longest: number, faults: string[] }> {
      stopped.abort()
      await working
      return { changes, longest, faults }
    }
  }
}
