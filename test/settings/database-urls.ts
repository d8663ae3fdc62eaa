/** What `pg` ends up with for a URL. */
export interface Expected {
  host: string
  port?: number
  user?: string
  password?: string
  database?: string
  ssl?: unknown
  options?: string
}

interface Form extends Expected {
  url: string
  /** PG* variables of the process. */
  env?: Record<string, string>
  /** `pg` alone would read the URL in another way, or not at all. */
  unlikePg?: true
}

const login = { user: 'u', password: 'p', database: 'x' }
const verified = {}
const unverified = { rejectUnauthorized: false }
const ca = { ca: '-----BEGIN CERTIFICATE-----' }
const socket = { host: '/cloudsql/project:region:instance', user: 'u', password: 'p', database: 'db', ssl: false }

/** URLs by their provider or their peculiarity. `<ca>` stands for the path of a PEM file. */
export const forms: Record<string, Form> = {
  'Cloud SQL': { url: 'postgres://u:p@/db?host=/cloudsql/project:region:instance', ...socket },
  'Cloud SQL, the socket as host': { url: 'postgres://u:p@%2Fcloudsql%2Fproject%3Aregion%3Ainstance/db', ...socket },
  'Cloud SQL, a literal %': {
    url: 'postgres://u:100%@/db?host=/cloudsql/project:region:instance', ...socket, password: '100%'
  },
  Heroku: {
    url: 'postgres://u:p@ec2-1-2-3-4.compute-1.amazonaws.com:5432/x',
    host: 'ec2-1-2-3-4.compute-1.amazonaws.com',
    ...login
  },
  'Heroku, its certificate unchecked': {
    url: 'postgres://u:p@h.example/x?sslmode=no-verify', host: 'h.example', ...login, ssl: unverified
  },
  RDS: {
    url: 'postgres://u:p@db.abc.eu-central-1.rds.amazonaws.com:5432/x?sslmode=verify-full&sslrootcert=<ca>',
    host: 'db.abc.eu-central-1.rds.amazonaws.com',
    ...login,
    ssl: ca
  },
  'RDS, the certificates alone': {
    url: 'postgres://u:p@h.example/x?sslrootcert=<ca>', host: 'h.example', ...login, ssl: ca
  },
  Neon: {
    url: 'postgresql://u:p@ep-a-1-pooler.eu-central-1.aws.neon.tech/x?sslmode=require&channel_binding=require' +
      '&options=endpoint%3Dep-a-1',
    host: 'ep-a-1-pooler.eu-central-1.aws.neon.tech',
    ...login,
    ssl: verified,
    options: 'endpoint=ep-a-1'
  },
  'Supabase, its pooler': {
    url: 'postgresql://postgres.ref:p@aws-0-eu-central-1.pooler.supabase.com:6543/postgres?pgbouncer=true',
    host: 'aws-0-eu-central-1.pooler.supabase.com',
    port: 6543,
    user: 'postgres.ref',
    password: 'p',
    database: 'postgres'
  },
  Azure: {
    url: 'postgres://admin%40server:p%40ss%2Fw%3F%23%25%3A@server.postgres.database.azure.com/x?sslmode=verify-full',
    host: 'server.postgres.database.azure.com',
    user: 'admin@server',
    password: 'p@ss/w?#%:',
    database: 'x',
    ssl: verified
  },
  'a literal @ in the password': { url: 'postgres://u:a@b@h.example/x', host: 'h.example', ...login, password: 'a@b' },
  'literal % among encoded bytes': {
    url: 'postgres://%C3%BC:100%é%20%2F%@h.example/%c3%a4?options=-c%20work_mem%3D1%',
    host: 'h.example',
    user: 'ü',
    password: '100%é /%',
    database: 'ä',
    options: '-c work_mem=1%',
    unlikePg: true
  },
  'a blank': {
    url: 'postgres://u:a b%C3%BC@h.example/x', host: 'h.example', ...login, password: 'a bü', unlikePg: true
  },
  'an IPv6 address': { url: 'postgres://u:p@[2001:db8::1]:5433/x', host: '2001:db8::1', port: 5433, ...login },
  'parameters before their places': {
    url: 'postgres://a:b@c:1/x?host=h.example&port=2&user=u&password=p', host: 'h.example', port: 2, ...login
  },
  'an empty host and a name': { url: 'postgres:///x?host=h.example&user=u&password=p', host: 'h.example', ...login },
  'an empty host': { url: 'postgres://u:p@/x', host: 'localhost', ...login },
  'no authority, no path': {
    url: 'postgres://?user=u&password=p', host: 'localhost', user: 'u', password: 'p', database: 'u'
  },
  'only PG* variables': {
    url: 'postgres://',
    env: { PGHOST: '/run/postgresql', PGPORT: '5433', PGUSER: 'u', PGPASSWORD: 'p', PGDATABASE: 'x' },
    host: '/run/postgresql',
    port: 5433,
    ...login
  },
  PGPASSWORD: { url: 'postgres://u@h.example/x', env: { PGPASSWORD: 'p' }, host: 'h.example', ...login },
  'a URL before PG* variables': {
    url: 'postgres://u:p@h.example:1/x?sslmode=disable',
    env: { PGHOST: 'a', PGPORT: '2', PGUSER: 'b', PGPASSWORD: 'c', PGDATABASE: 'd', PGSSLMODE: 'require' },
    host: 'h.example',
    port: 1,
    ...login
  },
  PGOPTIONS: {
    url: 'postgres://u:p@h.example/x', env: { PGOPTIONS: '-c a.b=c' }, host: 'h.example', ...login, options: '-c a.b=c'
  },
  'a socket, which has no TLS': {
    url: 'postgres://u:p@/x?host=/run&sslmode=require', host: '/run', ...login, ssl: false, unlikePg: true
  },
  'TLS from the first byte': {
    url: 'postgres://u:p@h.example/x?sslnegotiation=direct', host: 'h.example', ...login, ssl: true
  },
  'the usual negotiation': {
    url: 'postgres://u:p@h.example/x?sslnegotiation=postgres', host: 'h.example', ...login
  },
  ...tlsForms({
    'sslmode=disable': false,
    'sslmode=allow': verified,
    'sslmode=prefer': verified,
    'sslmode=require': verified,
    'sslmode=verify-ca': verified,
    'sslmode=verify-full': verified,
    'sslmode=no-verify': unverified,
    'uselibpqcompat=true&sslmode=disable': false,
    'uselibpqcompat=true&sslmode=prefer': unverified,
    'uselibpqcompat=true&sslmode=require': unverified,
    'uselibpqcompat=true&sslmode=require&sslrootcert=<ca>': { ...ca, checkServerIdentity: Function },
    'uselibpqcompat=true&sslmode=verify-ca&sslrootcert=<ca>': { ...ca, checkServerIdentity: Function },
    'uselibpqcompat=true&sslmode=verify-full': verified,
    'sslcert=<ca>&sslkey=<ca>': { cert: ca.ca, key: ca.ca },
    'ssl=true': true,
    'ssl=1': true,
    'ssl=0': false
  }),
  'ssl=no-verify': { url: 'postgres://u:p@h.example/x?ssl=no-verify', host: 'h.example', ...login, ssl: unverified },
  'ssl=false': { url: 'postgres://u:p@h.example/x?ssl=false', host: 'h.example', ...login, ssl: false, unlikePg: true },
  ...variableForms({
    disable: false, prefer: true, require: true, 'verify-ca': true, 'verify-full': true, 'no-verify': unverified
  })
}

function tlsForms (ssl: Record<string, unknown>): Record<string, Form> {
  return Object.fromEntries(Object.entries(ssl).map(([parameters, ssl]) =>
    [parameters, { url: `postgres://u:p@h.example/x?${parameters}`, host: 'h.example', ...login, ssl }]))
}

function variableForms (ssl: Record<string, unknown>): Record<string, Form> {
  return Object.fromEntries(Object.entries(ssl).map(([PGSSLMODE, ssl]) =>
    [`PGSSLMODE=${PGSSLMODE}`, {
      url: 'postgres://u:p@h.example/x', env: { PGSSLMODE }, host: 'h.example', ...login, ssl
    }]))
}

const several = /several (hosts|ports)/

/** URLs that are refused, each with the reason. `<dir>` stands for a directory with `text`, a file without a PEM. */
export const refusedUrls: Record<string, RegExp> = {
  'postgres://u:canary@h1,h2/x': several,
  'postgres://u:canary@h1:1,h2:2/x': several,
  'postgres://u:canary@[::1],h2/x?target_session_attrs=read-write': several,
  'postgres:///x?host=h1,h2&password=canary': several,
  'postgres:///x?host=h1&port=1,2&password=canary': several,
  'mysql://u:canary@h/x': /must begin with postgres:/,
  'postgres://u:canary/word@h/x': /%2F/,
  'postgres://u:canary#word@h/x': /%23/,
  'postgres://u:canary@:5432/x': /no URL/,
  'postgres://u:canary@h:70000/x': /no URL/,
  'postgres://u:canary@fe80::1/x': /\[address\]/,
  'postgres://u:canary@h/x?port=70000': /port .* 1 to 65535/,
  'postgres://u:canary@h:0/x': /port .* 1 to 65535/,
  'postgres://u:canary@h/x?port=abc': /port .* 1 to 65535/,
  'postgres://u:canary@local host/x': /blank/,
  'postgres://u:canary%ff@h/x': /not UTF-8/,
  'postgres://u:canary@h/%ff': /not UTF-8/,
  'postgres://u@h/x?password=canary%ff': /not UTF-8/,
  'postgres://u:canary@/x?hostaddr=10.0.0.1': /^hostaddr has no effect/,
  'postgres://u:canary@h?dbname=x&service=y': /^service,dbname has no effect/,
  'postgres://u:canary@h/x?sslmode=verify_full': /sslmode must be one of disable/,
  'postgres://u:canary@h/x?ssl=require': /ssl must be/,
  'postgres://u:canary@h/x?ssl=': /ssl must be/,
  'postgres://u:canary@h/x?sslnegotiation=canary': /sslnegotiation must be/,
  'postgres://u:canary@h/x?sslnegotiation=direct&sslmode=disable': /needs TLS/,
  'postgres://u:canary@h/x?uselibpqcompat=true&sslmode=verify-ca': /needs sslrootcert/,
  'postgres://u:canary@h/x?sslrootcert=<dir>/canary.pem': /sslrootcert.* cannot be read \(ENOENT\)/,
  'postgres://u:canary@h/x?sslrootcert=<dir>': /cannot be read \(EISDIR\)/,
  'postgres://u:canary@h/x?sslrootcert=<dir>/text': /no certificate in the PEM format/,
  'postgres://u:canary@h/x?connect_timeout=soon': /connect_timeout/
}

/** Database URLs that production refuses. */
export const guessable = [
  'postgres://u@h.example/x', 'postgres://u:@h.example/x', 'postgres://admin123:ADMIN123@h.example/x',
  'postgres://u%20v:u%20v@h.example/x', 'postgres:///x?host=h.example&password=postgres',
  'postgres://a:b@h.example/x?user=app&password=app',
  ...['postgres', 'password', 'ChangeMe', 'secret', 'admin', '%70assword'].map(
    (word) => `postgres://u:${word}@h.example/x`
  )
]

/** Database URLs that production accepts. */
export const strong = [
  'postgres://u:hunter2-hunter2@h.example/x', 'postgres://u:100%@h.example/x', 'postgres://u@localhost/x',
  'postgres://u:u@127.0.0.1/x', 'postgres://u@[::1]/x', 'postgres:///x', 'postgres:///x?host=/run/postgresql',
  'postgres:///x?host=h.example&password=hunter2', 'postgres://u@127.9.9.9/x'
]
