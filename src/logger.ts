import { isIP } from 'node:net'
import type { FastifyRequest } from 'fastify'
import type { LoggerOptions } from 'pino'
import { secretColumns } from './schemas/columns.js'

/**
 * How this service logs: a request by its route, an error by what cannot hold a value that was sent or stored.
 * Takes the level; returns options for pino.
 */
export function loggerOptions (level: string): LoggerOptions {
  return {
    level,
    serializers: {
      req: describeRequest,
      err: describeError
    },
    hooks: {
      // A line without a text would get the message of its error for one.
      logMethod ([first, text, ...values], method) {
        const isBare = text === undefined && typeof first === 'object' && first !== null
        method.apply(this, [first, isBare && (first instanceof Error || 'err' in first) ? 'error' : text, ...values])
      }
    },
    // A second fence, for a line that nobody has written yet.
    redact: [...secretColumns, 'password', 'authorization'].flatMap((name) => [name, `*.${name}`])
  }
}

/** A request by its route: what fills a parameter, or stands where no route is, could be a secret in the wrong place. */
function describeRequest ({ method, url, ip, routeOptions }: FastifyRequest): Record<string, unknown> {
  const path = url.split('?', 1).join().replace(/[^/]+/g, (step) => /^([a-z-]{1,32}|v\d)$/.test(step) ? step : '…')
  // Behind a proxy that passes on what it was sent, the address may be any text.
  return { method, path: routeOptions.url ?? path, ip: isIP(ip) === 0 ? '…' : ip }
}

/** Text from outside, for a log line: what a terminal would not print as a character of its own reads `…`. */
export const replaceUnprintable = (text: string): string => text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, '…')

/** Where an error came from, without its message unless it is one that is known to hold no value. */
export function describeError (err: unknown): Record<string, unknown> {
  if (!(err instanceof Error)) return { type: typeof err }
  const { code, syscall, statusCode, constraint, table, routine } = Object.fromEntries(Object.entries(err))
  return {
    type: err.name,
    code,
    // Ours and those of the operating system; PostgreSQL, JSON.parse and drizzle quote what they were given.
    ...(statusCode !== undefined || syscall !== undefined ? { message: err.message } : {}),
    constraint,
    table,
    routine,
    // The message goes first: it may hold lines that look like those of a stack.
    stack: err.stack?.replace(err.message, '').split('\n').filter((line) => line.startsWith('    at ')).join('\n'),
    ...(err.cause === undefined ? {} : { cause: describeError(err.cause) })
  }
}

/**
 * What went wrong, for a person at a terminal: the message alone, since a stack helps nobody there and may show a value.
 * What lies beneath says more: drizzle's own message shows a statement and its values, and that of a host with two
 * addresses is empty.
 */
export function describeForTerminal (err: unknown): string {
  if (err instanceof AggregateError) return describeForTerminal(err.errors[0])
  if (!(err instanceof Error)) return String(err)
  if (err.cause !== undefined) return describeForTerminal(err.cause)
  const isPortTaken = 'code' in err && err.code === 'EADDRINUSE'
  return isPortTaken ? `${err.message}. Stop what listens there, or set PORT to another one.` : err.message
}
