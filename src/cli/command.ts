import { constants } from 'node:os'
import { parseArgs, type ParseArgsConfig } from 'node:util'
import { describeForTerminal } from '../logger.js'

/**
 * Waits for a start, and calls `stop` when the command ends, also after a signal during the start.
 * A failed start is not stopped. The last start is stopped first.
 */
export type StopAtEnd = <T>(starting: Promise<T>, stop: (started: T) => Promise<unknown>) => Promise<T>

/**
 * Runs the body of a command, then stops what it started. An error is printed without its stack, which may show
 * a value, and sets exit code 1. A signal ends the process with 128 + its number, once everything is stopped.
 */
export async function runCli (body: (stopAtEnd: StopAtEnd) => Promise<void>): Promise<void> {
  const stops: Array<() => Promise<unknown>> = []
  const stopAtEnd: StopAtEnd = async (starting, stop) => {
    stops.push(async () => await starting.then(stop, () => {}))
    return await starting
  }
  let stopping: Promise<void> | undefined
  const stopAll = () => (stopping ??= (async () => {
    for (const stop of stops.reverse()) await stop()
  })())

  let isInterrupted = false
  function interrupt (exitCode: number): Promise<void> | undefined {
    // Ctrl-C arrives twice, from the terminal and from npm.
    if (isInterrupted) return
    isInterrupted = true
    return stopAll().finally(() => process.exit(exitCode))
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => interrupt(128 + constants.signals[signal]))
  }
  // The reader has closed the pipe, such as `| head`.
  process.stdout.on('error', () => interrupt(1))

  try {
    try {
      await body(stopAtEnd)
    } finally {
      await stopAll()
    }
  } catch (err) {
    // After a signal the body fails because its parts are stopped.
    if (!isInterrupted) console.error(describeForTerminal(err))
    process.exitCode = 1
  }
}

type Options = NonNullable<ParseArgsConfig['options']>
type Values<T extends Options> = ReturnType<typeof parseArgs<{ options: T }>>['values']

/**
 * Reads the options of the command line.
 *
 * @throws Error with the fault and the usage
 */
export function readOptions<const T extends Options> (options: T, usage: string): Values<T> {
  try {
    return parseArgs({ options }).values
  } catch (err) {
    throw new Error(`${describeForTerminal(err)}\n${usage}`)
  }
}
