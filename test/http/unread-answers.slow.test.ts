import { readdirSync } from 'node:fs'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import type { Test } from 'tap'
import t from '../run/tap.js'
import { get, unread } from '../fixtures/pipeline.js'
import { serverProcess, type ServerProcess } from '../fixtures/server-process.js'
import { baseEnv, createDatabase, until } from '../helper.js'

const { JWT_SECRET, ENCRYPTION_KEYS } = baseEnv
const env = { JWT_SECRET, ENCRYPTION_KEYS, DATABASE_URL: await createDatabase(t) }
const MIB = 1024 * 1024

// Answers each message with the memory in use after a garbage collection.
const gauge = `data:text/javascript,${encodeURIComponent(`process.on('message', () => {
  gc()
  const { heapUsed, external } = process.memoryUsage()
  process.send(heapUsed + external)
})`)}`

/** Memory in use, in bytes. */
async function memory ({ child }: ServerProcess): Promise<number> {
  const answer = once(child, 'message')
  child.send('measure')
  const [bytes]: unknown[] = await answer
  return Number(bytes)
}

const descriptors = ({ child }: ServerProcess) => readdirSync(`/proc/${child.pid}/fd`).length

/** Resolves once the process has handled all earlier requests. */
async function isAlive ({ origin }: ServerProcess): Promise<boolean> {
  return (await fetch(`${origin}/health/live`)).ok
}

/** Starts the service; returns it with its memory and descriptors after a first request. */
async function start (t: Test) {
  const server = await serverProcess(t, env, ['--max-old-space-size=512', '--expose-gc', '--import', gauge])
  await fetch(`${server.origin}/docs/json`)
  return { server, before: { memory: await memory(server), descriptors: descriptors(server) } }
}

const requests = {
  'the script of the page': get('/docs/static/swagger-ui-bundle.js').repeat(1000),
  'the document, 61 KB of requests': get('/docs/json').repeat(Math.ceil(61_000 / get('/docs/json').length)),
  'an unknown route': get('/nowhere').repeat(1000)
}

await t.test('memory and descriptors of unread answers are released when their connections end', async (t) => {
  const { server, before } = await start(t)
  for (const [name, bytes] of Object.entries(requests)) {
    const sockets = await Promise.all([1, 2, 3].map(async () => await unread(t, server.origin, bytes)))
    t.ok(await isAlive(server), `${name}: other requests are answered`)
    for (const socket of sockets) socket.destroy()
    await until(() => descriptors(server) <= before.descriptors + 2, 5_000)
    await until(async () => await memory(server) < before.memory + 16 * MIB, 5_000)
    t.pass(`${name}: descriptors and memory are released`)
  }
  t.equal(server.child.exitCode, null)
})

await t.test('an unread answer occupies no file descriptor and no copy of a document', async (t) => {
  const { server, before } = await start(t)
  const sockets: Socket[] = []
  for (const path of [
    '/docs', '/docs/', '/docs/json', '/docs/yaml', '/docs/static/swagger-ui.css', '/docs/static/swagger-ui-bundle.js'
  ]) {
    sockets.push(await unread(t, server.origin, get(path).repeat(90)))
  }
  t.ok(await isAlive(server))
  const inUse = { descriptors: descriptors(server), memory: await memory(server) }
  // The open connections, and the one of the request above.
  t.ok(
    inUse.descriptors <= before.descriptors + sockets.length + 2,
    `${inUse.descriptors} descriptors after ${before.descriptors}`
  )
  t.ok(inUse.memory < before.memory + 16 * MIB, `${inUse.memory} bytes after ${before.memory}`)
})
