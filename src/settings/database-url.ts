import type { ClientConfig } from 'pg'
import { parse, toClientConfig } from 'pg-connection-string'
import { describeForTerminal } from '../logger.js'

type Parsed = ReturnType<typeof parse>

/** As `pg` takes it; undefined: PGSSLMODE decides. */
type Ssl = ClientConfig['ssl']

/** The address of a database, and the login. */
export interface DatabaseTarget {
  /** A name, an address, or the directory of a Unix socket. */
  host: string
  port: number
  user: string | undefined
  password: string | undefined
  database: string | undefined
  ssl: Ssl
  sslnegotiation: Parsed['sslnegotiation']
  /** For PostgreSQL; undefined: PGOPTIONS decides. */
  options: string | undefined
  application_name: string | undefined
  /** Milliseconds for one attempt; undefined: the URL sets none. */
  connectTimeoutMs: number | undefined
}

const MAX_TIMER_S = 2147483
const SSL_MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full', 'no-verify']
const SSL_VALUES = new Map<string, Ssl>([['false', false], ['no-verify', { rejectUnauthorized: false }]])
/** Parameters of libpq that choose the database. `pg` would ignore them, and connect to another one. */
const UNREAD = ['hostaddr', 'service', 'dbname']

/**
 * Parses the URL of a database as `pg` does; PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE and PGCONNECT_TIMEOUT fill
 * its gaps. Reads the files that `sslrootcert`, `sslcert` and `sslkey` name. Parameters without a place in the result
 * have no effect.
 *
 * @param url postgres://…
 * @throws an error for a person, without values, that completes "it is not usable: …"
 */
export function parseDatabaseUrl (url: string): DatabaseTarget {
  if (!/^postgres(ql)?:\/\//.test(url)) throw new Error('it must begin with postgres:// or postgresql://')
  // At a blank or a literal %, pg-connection-string would encode the whole URL again.
  const encoded = url.replaceAll(' ', '%20').replace(/%(?![0-9a-f]{2})/gi, '%25')
  assertOneHost(/^\w+:\/\/(?:[^/?#]*@)?([^/?#]*)/.exec(encoded)?.[1])
  const parsed = parseOrExplain(encoded)
  const read = (name: string, variable = '') => readText(parsed[name]) ?? readText(process.env[variable])
  const unread = UNREAD.filter((name) => read(name) !== undefined)
  if (unread.length > 0) {
    throw new Error(`${unread.join()} has no effect: write postgres://user:password@host:port/database`)
  }
  const host = read('host', 'PGHOST') ?? 'localhost'
  assertOneHost(host)
  const ssl = readTls(parsed, host)
  return {
    host,
    port: readPort(read('port', 'PGPORT') ?? '5432'),
    user: read('user', 'PGUSER'),
    password: read('password', 'PGPASSWORD'),
    database: read('database', 'PGDATABASE'),
    ssl,
    sslnegotiation: readNegotiation(parsed, ssl),
    options: read('options'),
    application_name: read('application_name'),
    connectTimeoutMs: readSeconds(read('connect_timeout', 'PGCONNECT_TIMEOUT') ?? '0')
  }
}

/** Returns why the URL of a database cannot be used, for a person and without values; undefined when it can. */
export function databaseUrlFault (url: string): string | undefined {
  try {
    parseDatabaseUrl(url)
    return undefined
  } catch (err) {
    return describeForTerminal(err)
  }
}

function parseOrExplain (url: string): Parsed {
  try {
    return parse(url)
  } catch (err) {
    // Their messages may hold a path or a part of the URL.
    const code = err instanceof Error && 'code' in err ? err.code : undefined
    if (err instanceof URIError) throw new Error('it holds bytes that are not UTF-8')
    if (code === 'ERR_INVALID_URL') {
      throw new Error('it is no URL: in the user and the password write / ? # and @ as %2F %3F %23 and %40, ' +
        'an IPv6 address as [address]')
    }
    if (code !== undefined) {
      throw new Error(`the file of sslrootcert, sslcert or sslkey cannot be read (${String(code)})`)
    }
    throw new Error('sslmode=verify-ca needs sslrootcert= with uselibpqcompat=true')
  }
}

/** An empty text counts as unset, as in `pg`. */
function readText (value: unknown): string | undefined {
  if (typeof value !== 'string' || value === '') return undefined
  if (value.includes('\uFFFD')) throw new Error('it holds bytes that are not UTF-8')
  return value
}

function assertOneHost (host = ''): void {
  if (host.includes(',')) {
    throw new Error('it names several hosts; name one, such as the address that always leads to the primary')
  }
  if (/\s/.test(host)) throw new Error('there is a blank in its host')
}

function readPort (text: string): number {
  if (text.includes(',')) throw new Error('it names several ports, as for several hosts; name one host')
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0
  if (port < 1 || port > 65535) throw new Error('its port (or PGPORT) is not a number from 1 to 65535')
  return port
}

/** Zero and less set no time, as in libpq: https://www.postgresql.org/docs/18/libpq-connect.html */
function readSeconds (text: string): number | undefined {
  if (!/^-?\d{1,9}$/.test(text)) throw new Error('connect_timeout (or PGCONNECT_TIMEOUT) is not a number of seconds')
  return Number(text) > 0 ? Math.min(Number(text), MAX_TIMER_S) * 1000 : undefined
}

function readTls ({ ssl, sslmode }: Parsed, host: string): Ssl {
  if (sslmode !== undefined && !SSL_MODES.includes(String(sslmode))) {
    throw new Error(`sslmode must be one of ${SSL_MODES.join(', ')}`)
  }
  // No TLS on a socket, as in libpq: PostgreSQL would refuse it.
  if (host.startsWith('/')) return false
  if (typeof ssl === 'string') {
    if (!SSL_VALUES.has(ssl)) throw new Error('ssl must be true, false or no-verify; better use sslmode=verify-full')
    return SSL_VALUES.get(ssl)
  }
  // TLS would drop a file in another format, and trust nobody.
  if (typeof ssl === 'object' && ssl.ca !== undefined && !ssl.ca.includes('CERTIFICATE-----')) {
    throw new Error('the file of sslrootcert holds no certificate in the PEM format')
  }
  return toClientConfig({ host: null, database: null, ssl }).ssl
}

function readNegotiation ({ sslnegotiation }: Parsed, ssl: Ssl): Parsed['sslnegotiation'] {
  if (sslnegotiation === undefined || sslnegotiation === 'postgres') return sslnegotiation
  if (sslnegotiation !== 'direct') throw new Error('sslnegotiation must be postgres or direct')
  if (ssl === false) throw new Error('sslnegotiation=direct needs TLS: sslmode=verify-full')
  return sslnegotiation
}
