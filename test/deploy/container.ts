import { execFileSync, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import type { Test } from 'tap'

/** The part of an image's configuration that says how to run it. */
export interface ImageConfig {
  User: string
  WorkingDir: string
  Env: string[]
  Cmd: [string, ...string[]]
  StopSignal: NodeJS.Signals
  Healthcheck: { Test: [string, ...string[]] }
  ExposedPorts: Record<string, object>
}

export interface Image {
  config: ImageConfig
  /** The directory with the image's files. */
  root: string
  /** The size of all files, and of those of the base. */
  kibibytes: number
  ofBase: number
}

/** Opens the images that build-image.sh left in `dir`. */
export function openImage (t: Test, dir: string): Image {
  const buildah = (...args: string[]) =>
    execFileSync('buildah', [
      '--root', `${dir}/storage`, '--runroot', `${dir}/run`, '--storage-driver', 'overlay', ...args
    ], { encoding: 'utf8' }).trim()
  const { Docker: { config } }: { Docker: { config: ImageConfig } } =
    JSON.parse(buildah('inspect', '--type', 'image', 'service'))
  const container = buildah('from', 'service')
  const root = buildah('mount', container)
  t.teardown(() => { buildah('umount', container) })
  const kibibytes = Number(execFileSync('du', ['-sk', root], { encoding: 'utf8' }).split('\t')[0])
  return { config, root, kibibytes, ofBase: Number(readFileSync(`${dir}/base-size`, 'utf8')) }
}

// As a container engine does it, by the tools of util-linux: the process is the first of its namespace, its root
// file system is the image's, which nothing can write to, and it can gain no rights. The network is the machine's.
const CONTAINER = `set -e
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount -o remount,bind,ro "$1"
root=$1 user=$2 dir=$3
shift 3
exec setpriv --no-new-privs chroot --userspec="$user" --groups= "$root" /usr/bin/env -i -C "$dir" "$@"`

export interface Running {
  out: () => string
  err: () => string
  /** The exit code and the signal. */
  ended: Promise<unknown[]>
  child: ChildProcess
  /** Signals the process in the container. */
  kill: (signal: NodeJS.Signals) => void
}

/** Runs a command in a container of the image, with the user, the directory and the environment of the image. */
export function runImage (
  t: Test, { root, config }: Image, env: Record<string, string>, command: string[] = config.Cmd
): Running {
  const variables = [...config.Env, ...Object.entries(env).map(([name, value]) => `${name}=${value}`)]
  const child = spawn('unshare', [
    '--mount', '--pid', '--fork', '--kill-child', 'sh', '-c', CONTAINER, 'sh', root, config.User, config.WorkingDir,
    ...variables, ...command
  ], { stdio: ['ignore', 'pipe', 'pipe'] })
  let [out, err] = ['', '']
  child.stdout.on('data', (chunk) => { out += String(chunk) })
  child.stderr.on('data', (chunk) => { err += String(chunk) })
  const ended = once(child, 'close')
  t.teardown(async () => {
    child.kill('SIGKILL')
    await ended
  })
  return {
    out: () => out,
    err: () => err,
    ended,
    child,
    kill (signal) {
      // `unshare` itself only waits for its child.
      const pid = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim()
      process.kill(Number(pid), signal)
    }
  }
}
