import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import { freePort } from '../fixtures/free-port.js'
import { blocksOf } from '../docs/markdown.js'
import { createDatabase, query, until } from '../helper.js'
import { readCompose, serviceOf, type ComposeService } from './manifests.js'
import { directory } from './sources.js'

export interface Stack {
  /** The environment of a service of compose.yaml, with its secrets as files on this machine. */
  envOf: (name: string) => Record<string, string>
  jwtSecret: string
  /** The ports of the instances, by their names in compose.yaml. */
  ports: Record<'wtc-1' | 'wtc-2', number>
  /** The origin of Caddy. */
  origin: string
}

/**
 * Starts what deploy/compose.yaml puts around the instances, as processes: a database with its role, PgBouncer with
 * deploy/pgbouncer.ini, and Caddy with deploy/Caddyfile. The secrets are those that deploy/README.md creates. Only
 * addresses differ, since all share this machine.
 */
export async function startStack (t: Test): Promise<Stack> {
  const dir = directory(t)
  const compose = readCompose()
  const secrets = await createSecrets(dir)
  const database = new URL(await createDatabase(t, { empty: true }))
  const password = secrets('postgres-password')
  await createRole(t, database, password)
  const bouncerPort = await startPgBouncer(t, dir, database)
  // The hosts of the URLs are services of compose.yaml.
  for (const [name, host, port] of [
    ['database-url', 'pgbouncer:6432', bouncerPort], ['database-direct-url', 'postgres:5432', database.port]
  ]) {
    const path = join(dir, `deploy/secrets/${name}`)
    const url = readFileSync(path, 'utf8').replace(`@${host}/wtc`, `@127.0.0.1:${port}${database.pathname}`)
    writeFileSync(path, url)
  }
  const ports = { 'wtc-1': await freePort(), 'wtc-2': await freePort() }
  const origin = `http://127.0.0.1:${await freePort()}`
  const upstreams = Object.values(ports).map((port) => `127.0.0.1:${port}`)
  await startCaddy(t, dir, { SITE_ADDRESS: origin, UPSTREAMS: upstreams.join(' ') })
  return {
    envOf: (name) => environmentOf(serviceOf(compose, name), join(dir, 'deploy/secrets')),
    jwtSecret: secrets('jwt-secret'),
    ports,
    origin
  }
}

/** Runs the commands of deploy/README.md in `dir`; returns a function that reads a secret. */
async function createSecrets (dir: string): Promise<(name: string) => string> {
  const [block] = blocksOf(readFileSync('deploy/README.md', 'utf8')).filter(({ language }) => language === 'sh')
  mkdirSync(join(dir, 'deploy'))
  await promisify(execFile)('sh', ['-ec', String(block?.text)], { cwd: dir })
  return (name) => readFileSync(join(dir, 'deploy/secrets', name), 'utf8').trim()
}

function environmentOf ({ environment = {} }: ComposeService, secrets: string): Record<string, string> {
  return Object.fromEntries(Object.entries(environment).map(
    ([name, value]) => [name, value.replace('/run/secrets', secrets)]
  ))
}

/** The role that the image of PostgreSQL creates: a superuser, as the owner of the database. */
async function createRole (t: Test, database: URL, password: string): Promise<void> {
  const name = database.pathname.slice(1)
  await query(database.href, `create role wtc superuser login password '${password}'`)
  await query(database.href, `alter database ${name} owner to wtc`)
  t.teardown(async () => {
    await query(database.href, `alter database ${name} owner to current_user; drop owned by wtc cascade; drop role wtc`)
  })
}

async function startPgBouncer (t: Test, dir: string, database: URL): Promise<number> {
  const port = await freePort()
  const own = {
    'host=postgres port=5432': `host=${database.hostname} port=${database.port}`,
    'listen_port = 6432': `listen_port = ${port}`,
    'listen_addr = *': 'listen_addr = 127.0.0.1',
    '/run/secrets/': `${dir}/deploy/secrets/`
  }
  const config = Object.entries(own).reduce(
    (text, [shown, mine]) => text.replace(shown, mine), readFileSync('deploy/pgbouncer.ini', 'utf8')
  )
  const path = join(dir, 'pgbouncer.ini')
  writeFileSync(path, config)
  // The user of PgBouncer must enter, as in its container.
  await promisify(execFile)('chmod', ['o+x', join(dir, 'deploy/secrets')])
  const asUser = process.getuid?.() === 0 ? ['setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups'] : []
  await startDaemon(t, [...asUser, 'pgbouncer', path], port)
  return port
}

async function startCaddy (t: Test, dir: string, placeholders: Record<string, string>): Promise<void> {
  const env = { ...process.env, ...placeholders, XDG_DATA_HOME: dir, XDG_CONFIG_HOME: dir }
  const port = Number(new URL(String(placeholders['SITE_ADDRESS'])).port)
  await startDaemon(t, ['caddy', 'run', '--adapter', 'caddyfile', '--config', 'deploy/Caddyfile'], port, env)
}

/** Starts a program and waits until it listens. It is killed when the test ends. */
async function startDaemon (
  t: Test, [command = '', ...args]: string[], port: number, env: NodeJS.ProcessEnv = process.env
): Promise<void> {
  const child = spawn(command, args, { env, stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  child.stderr.on('data', (chunk) => { log += String(chunk) })
  const ended = once(child, 'exit')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  await until(async () => {
    if (child.exitCode !== null) throw new Error(log)
    const socket = connect(port, '127.0.0.1')
    try {
      await once(socket, 'connect')
      return true
    } catch {
      return false
    } finally {
      socket.destroy()
    }
  })
}
