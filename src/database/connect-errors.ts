import pg from 'pg'
import { describeForTerminal } from '../logger.js'

/** Why there is no connection, and what to do; `%` stands for the setting with the URL. */
interface Fault { text: string, mend: string, passes?: true }

const untrusted: Fault = {
  text: 'the certificate of the server is not trusted',
  mend: 'Add sslrootcert=/path/to/ca.pem with the private authority that signed it to %'
}
const timeout: Fault = {
  text: 'there was no answer within connect_timeout',
  mend: 'See that no firewall is in between, correct host and port in %, or raise connect_timeout there',
  passes: true
}
const unreachable: Fault = {
  text: 'no network leads to its host', mend: 'See to the network, or correct the host in %', passes: true
}
const closed: Fault = {
  text: 'the other side closed the connection',
  mend: 'See the log of PostgreSQL, or of what is in between',
  passes: true
}

/** By SQLSTATE, by the code of the system or of TLS, and by the names of `messages`. */
const faults: Record<string, Fault> = {
  ECONNREFUSED: {
    text: 'nothing listens at its host and port', mend: 'Start PostgreSQL, or correct host and port in %', passes: true
  },
  ENOENT: {
    text: 'there is no socket in the directory that is its host',
    mend: 'Start PostgreSQL or its proxy there, or correct host= in %',
    passes: true
  },
  EACCES: { text: 'the user of the service may not use the socket', mend: 'Let it into the directory of the socket' },
  ENOTFOUND: { text: 'DNS does not know its host', mend: 'Correct the host in %', passes: true },
  EAI_AGAIN: { text: 'DNS does not answer', mend: 'See to DNS, or correct the host in %', passes: true },
  ETIMEDOUT: timeout,
  timeout,
  EHOSTUNREACH: unreachable,
  ENETUNREACH: unreachable,
  ECONNRESET: closed,
  EPIPE: closed,
  closed,
  '57P03': { text: 'PostgreSQL is starting or stopping', mend: 'Wait until it accepts connections', passes: true },
  53300: {
    text: 'PostgreSQL has no connection left',
    mend: 'Raise max_connections or the connection limit of the role or the database, or lower DATABASE_POOL_MAX',
    passes: true
  },
  '3D000': { text: 'the database does not exist', mend: 'Create it, or correct its name in % or PGDATABASE' },
  '28P01': { text: 'the user or the password is wrong', mend: 'Correct them in %, or in PGUSER and PGPASSWORD' },
  28000: {
    text: 'PostgreSQL does not admit the user', mend: 'Correct the user in % or PGUSER, or admit it in pg_hba.conf'
  },
  password: { text: 'PostgreSQL asks for a password', mend: 'Write it into %, or set PGPASSWORD' },
  encryption: {
    text: 'PostgreSQL does not admit a connection without TLS',
    mend: 'Add sslmode=verify-full to %, and sslrootcert=/path/to/ca.pem if a private authority signed its certificate'
  },
  plain: {
    text: 'the server has no TLS', mend: 'Set ssl = on there, or in a private network write sslmode=disable in %'
  },
  parameter: {
    text: 'the pooler refuses a parameter of the connection',
    mend: 'Remove options= from % and unset PGOPTIONS, or add options to ignore_startup_parameters of PgBouncer'
  },
  SELF_SIGNED_CERT_IN_CHAIN: untrusted,
  DEPTH_ZERO_SELF_SIGNED_CERT: untrusted,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: untrusted,
  UNABLE_TO_GET_ISSUER_CERT: untrusted,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: untrusted,
  ERR_TLS_CERT_ALTNAME_INVALID: {
    text: 'the certificate of the server is for another name', mend: 'Write the host in % as the certificate names it'
  },
  CERT_HAS_EXPIRED: { text: 'the certificate of the server has expired', mend: 'Renew it there' },
  CERT_NOT_YET_VALID: { text: 'the certificate of the server is not valid yet', mend: 'Set the clocks right' }
}

/** Errors without a code of their own, by code and message. PgBouncer reports everything as 08P01. */
const messages: Array<[RegExp, string]> = [
  [/^ (timeout e|Connection terminated due to connection timeout)/, 'timeout'],
  [/^ Connection terminated unexpectedly/, 'closed'],
  [/^ SASL: .* client password must be/, 'password'],
  [/^ The server does not support SSL/, 'plain'],
  [/^[0-9A-Z]{5} .*(no encryption|SSL off|SSL required|is insecure)/, 'encryption'],
  [/^08P01 unsupported startup parameter/, 'parameter'],
  [/^08P01 .*(authentication failed|no such user)/, '28P01'],
  [/^08P01 .*(no such database|database .* does not exist)/, '3D000']
]

/** SQLSTATEs that pass: class 08 connection · 53 resources · 57P01 to 57P03 shutdown, crash, start. */
const PASSING_STATES = /^(08|53|57P0[123])/

/**
 * Describes why there is no connection, and what to do, without values: the messages of PostgreSQL and of the system
 * hold host, user and database.
 *
 * @param setting the setting with the URL
 */
export function describeConnectError (err: unknown, setting = 'DATABASE_URL'): string {
  if (err instanceof AggregateError) return describeConnectError(err.errors[0], setting)
  const fault = findFault(err)
  const code = codeOf(err)
  const state = err instanceof pg.DatabaseError ? `SQLSTATE ${code}` : code
  if (fault !== undefined) {
    return `${fault.text}${code === '' ? '' : ` (${state})`}. ${fault.mend.replace('%', setting)}`
  }
  if (err instanceof pg.DatabaseError) return `PostgreSQL refuses with ${state}`
  return code === '' ? describeForTerminal(err) : `the connection fails (${code})`
}

/** Whether the cause may pass by itself, such as a database that starts or a name that DNS does not know yet. */
export function mayPass (err: unknown): boolean {
  if (err instanceof AggregateError) return err.errors.some(mayPass)
  const fault = findFault(err)
  if (fault !== undefined) return fault.passes === true
  return err instanceof pg.DatabaseError && PASSING_STATES.test(codeOf(err))
}

function findFault (err: unknown): Fault | undefined {
  const code = codeOf(err)
  const line = `${code} ${err instanceof Error ? err.message : ''}`
  const [, name = code] = messages.find(([pattern]) => pattern.test(line)) ?? []
  return faults[name]
}

function codeOf (err: unknown): string {
  return err instanceof Error && 'code' in err && typeof err.code === 'string' ? err.code : ''
}
