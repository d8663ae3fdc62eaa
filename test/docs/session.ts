import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync, copyFileSync, linkSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync,
  realpathSync, rmSync, symlinkSync, writeFileSync
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Test } from 'tap'
import { freePort } from '../fixtures/free-port.js'

// `npm start` stands for the service that a reader runs in a second terminal; another `npm start` restarts it. Its
// command runs without npm, so that it receives the signal to end. curl writes the status of each answer to stderr, so
// that every status is checked. The traps for signals prevent a shell that ends without its EXIT trap, which would
// leave the service running.
const PREAMBLE = `set -e
start='node dist/server.js'
curl () { command curl -w '%{stderr}%{http_code}\\n' "$@"; }
stop () {
  [ -n "$server" ] || return 0
  kill $server
  wait $server || :
  server=
}
npm () {
  [ "$*" = start ] || { command npm "$@"; return; }
  stop
  $start >server.out 2>&1 </dev/null &
  server=$!
  until command curl -sf -o ready "http://127.0.0.1:$PORT/health/ready"; do
    kill -0 $server || { cat server.out >&2; return 1; }
    sleep 0.1
  done
  sed '/^{/d' server.out
}
trap stop EXIT
trap 'exit 1' HUP INT TERM PIPE
`

export interface Output {
  stdout: string
  /** The statuses of all answers that curl received. */
  statuses: number[]
}

/**
 * A shell in a directory that looks like a fresh clone after `npm ci`. Its variables persist between scripts.
 */
export interface Session {
  dir: string
  /** The origin of the service after `npm start`. */
  origin: string
  /** Runs a script. Throws with the stderr when a command in it fails. */
  run: (script: string) => Promise<Output>
}

/**
 * Opens a session; it ends, and the service with it, when the test ends. With `ownModules` its modules are a copy that
 * may be changed.
 */
export async function openSession (
  t: Test,
  env: Record<string, string>,
  { ownModules = false } = {}
): Promise<Session> {
  const dir = ownModules ? t.testdir() : mkdtempSync(join(tmpdir(), 'docs-'))
  // For root, PostgreSQL runs as another user, which must be able to enter.
  chmodSync(dir, 0o711)
  for (const name of ['package.json', 'package-lock.json', 'bin', 'dist', 'drizzle', 'node_modules']) {
    if (ownModules) link(name, join(dir, name))
    else symlinkSync(resolve(name), join(dir, name))
  }
  const port = await freePort()
  const { PATH = '', HOME = '' } = process.env
  const npm = {
    npm_config_offline: 'true',
    npm_config_audit: 'false',
    npm_config_fund: 'false',
    npm_config_update_notifier: 'false'
  }
  const shell = spawn('sh', {
    cwd: dir,
    env: { PATH, HOME, PORT: String(port), ...npm, ...env },
    stdio: ['pipe', 'pipe', 'inherit']
  })
  const ended = once(shell, 'exit').then(() => 'ended')
  t.teardown(async () => {
    shell.stdin.end()
    await ended
    removeData(dir)
    rmSync(dir, { recursive: true })
  })
  shell.stdin.write(PREAMBLE)
  return { dir, origin: `http://127.0.0.1:${port}`, run: (script) => run(shell, ended, dir, script) }
}

async function run (
  { stdin, stdout }: ChildProcess,
  ended: Promise<string>,
  dir: string,
  script: string
): Promise<Output> {
  writeFileSync(join(dir, 'script.sh'), script)
  // A reader may paste each block into a new terminal, so each starts with the default umask.
  stdin?.write('umask 022; . ./script.sh >stdout.txt 2>stderr.txt </dev/null; echo\n')
  const done = stdout === null ? ended : Promise.race([ended, once(stdout, 'data')])
  const stderr = () => readFileSync(join(dir, 'stderr.txt'), 'utf8')
  if (await done === 'ended') throw new Error(`A command failed:\n${script}\n${stderr()}`)
  const statuses = (stderr().match(/^\d{3}$/gm) ?? []).map(Number)
  return { stdout: readFileSync(join(dir, 'stdout.txt'), 'utf8'), statuses }
}

/** Creates hard links, because copying all modules is slow; copies the files that npm may write. */
function link (from: string, to: string): void {
  const kind = lstatSync(from)
  if (kind.isSymbolicLink()) symlinkSync(readlinkSync(from), to)
  else if (/package(-lock)?\.json$/.test(from)) copyFileSync(from, to)
  else if (kind.isFile()) linkSync(from, to)
  else {
    mkdirSync(to)
    for (const name of readdirSync(from)) link(join(from, name), join(to, name))
  }
}

/** The embedded database may be elsewhere, if its user cannot enter the directory. */
function removeData (dir: string): void {
  try {
    rmSync(realpathSync(join(dir, '.data/postgres')), { recursive: true })
  } catch {
    // No embedded database was started.
  }
}
