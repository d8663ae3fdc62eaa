import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort } from '../fixtures/free-port.js'
import { temporaryDir } from '../bench/stage/temporary.js'
import { until } from '../without-database.js'

/** HAProxy in front of the instances. */
export interface Proxy { origin: string, stop: () => Promise<void> }

/**
 * Starts Debian's HAProxy for instances on these ports. It repeats a request at the other instance only where no
 * connection came about. The check is /health/live: with /health/ready the proxy itself would answer 503 while the
 * database is down.
 */
export async function startHaproxy (ports: number[]): Promise<Proxy> {
  const { dir, remove } = await temporaryDir()
  const port = await freePort()
  const config = join(dir, 'haproxy.cfg')
  await writeFile(config, [
    'defaults',
    '  mode http',
    '  timeout connect 1s',
    '  timeout client 60s',
    '  timeout server 60s',
    '  timeout check 5s',
    '  retries 3',
    '  option redispatch 1',
    '  retry-on conn-failure',
    'listen instances',
    `  bind 127.0.0.1:${port}`,
    '  option httpchk GET /health/live',
    ...ports.map((port) => `  server i${port} 127.0.0.1:${port} check inter 1s fall 3 rise 1`),
    ''
  ].join('\n'))
  const child = spawn('haproxy', ['-db', '-f', config], { stdio: ['ignore', 'ignore', 'pipe'] })
  let log = ''
  child.stderr.on('data', (chunk) => { log += String(chunk) })
  const ended = once(child, 'exit')
  const origin = `http://127.0.0.1:${port}`
  await until(async () => {
    if (child.exitCode !== null) throw new Error(log)
    return await fetch(`${origin}/health/live`).then(({ ok }) => ok, () => false)
  })
  return {
    origin,
    async stop () {
      child.kill('SIGKILL')
      await ended
      await remove()
    }
  }
}
