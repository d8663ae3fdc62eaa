import { constants } from 'node:os'
import { parseArgs, type ParseArgsConfig } from 'node:util'
import { describeForTerminal } from '../logger.js'

/**
 * Waits for something to start and has it stopped when the command ends, be it by a signal while it starts.
 * What never started needs no stop; what started last is stopped first.
 */
export type StopAtEnd = <T>(starting: Promise<T>, stop: (started: T) => Promise<unknown>) => Promise<T>

/**
 * Runs the body of a command and stops whatever it holds. What it throws ends the process with 1 and the message alone: a
 * stack helps nobody at a prompt, and may show a value. A signal ends the process too, once everything is stopped.
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
    // A terminal and npm both pass the same Ctrl-C on.
    if (isInterrupted) return
    isInterrupted = true
    return stopAll().finally(() => process.exit(exitCode))
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => interrupt(128 + constants.signals[signal]))
  }
  // Whoever read it has gone, as `| head` does.
  process.stdout.on('error', () => interrupt(1))

  try {
    try {
      await body(stopAtEnd)
    } finally {
      await stopAll()
    }
  } catch (err) {
    // What fails because it was stopped is no news.
    if (!isInterrupted) console.error(describeForTerminal(err))
    process.exitCode = 1
  }
}

type Options = NonNullable<ParseArgsConfig['options']>
type Values<T extends Options> = ReturnType<typeof parseArgs<{ options: T }>>['values']

/** Reads the options of the command line. Throws an error that tells what is wrong with them, and the usage. */
export function readOptions<const T extends Options> (options: T, usage: string): Values<T> {
  try {
    return parseArgs({ options }).values
  } catch (err) {
    throw new Error(`${describeForTerminal(err)}\n${usage}`)
  }
}
