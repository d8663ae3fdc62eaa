import pg from 'pg'
import t from '../../run/tap.js'
import { describeConnectError, mayPass } from '../../../src/database/connect-errors.js'

const ofPostgres = (code: string, message: string) => Object.assign(new pg.DatabaseError(message, 1, 'error'), { code })
const ofSystem = (code: string) => Object.assign(new Error(`connect ${code} canary:1`), { code, syscall: 'connect' })

/** Errors, their description, and whether waiting may help. */
const cases: Array<[Error, RegExp, boolean]> = [
  [ofSystem('ENOENT'), /no socket in the directory that is its host \(ENOENT\)\. .* host= in DATABASE_URL/, true],
  [ofSystem('EACCES'), /may not use the socket \(EACCES\)\. Let it into/, false],
  [ofSystem('ENOTFOUND'), /DNS does not know its host \(ENOTFOUND\)\. Correct the host in DATABASE_URL/, true],
  [ofSystem('EAI_AGAIN'), /DNS does not answer \(EAI_AGAIN\)/, true],
  [ofSystem('ETIMEDOUT'), /no answer within connect_timeout \(ETIMEDOUT\)/, true],
  [ofSystem('EHOSTUNREACH'), /no network leads to its host/, true],
  [ofSystem('ENETUNREACH'), /no network leads to its host/, true],
  [ofSystem('ECONNRESET'), /closed the connection/, true],
  [ofSystem('EMFILE'), /^the connection fails \(EMFILE\)$/, false],
  [new AggregateError([ofSystem('ECONNREFUSED'), ofSystem('ENETUNREACH')]), /nothing listens at its host/, true],
  [new AggregateError([ofSystem('EMFILE'), ofSystem('ECONNREFUSED')]), /EMFILE/, true],
  [new Error('Connection terminated unexpectedly'), /^the other side closed the connection\. See the log/, true],
  [new Error('Connection terminated due to connection timeout'), /no answer within connect_timeout\. See/, true],
  [new Error('timeout exceeded when trying to connect'), /no answer within connect_timeout\. See/, true],
  [new Error('received invalid response: 48'), /^received invalid response: 48$/, false],
  [ofPostgres('57P03', 'the database system is starting up'), /starting or stopping \(SQLSTATE 57P03\)/, true],
  [ofPostgres('57P01', 'terminating connection canary'), /^PostgreSQL refuses with SQLSTATE 57P01$/, true],
  [ofPostgres('53300', 'sorry, too many clients already'), /no connection left \(SQLSTATE 53300\)\. Raise max_/, true],
  [ofPostgres('53200', 'out of memory'), /SQLSTATE 53200/, true],
  [ofPostgres('08006', 'canary'), /SQLSTATE 08006/, true],
  [ofPostgres('42501', 'permission denied for database canary'), /^PostgreSQL refuses with SQLSTATE 42501$/, false],
  [ofPostgres('28000', 'role "canary" is not permitted to log in'), /does not admit the user/, false],
  [ofPostgres('28000', 'no pg_hba.conf entry for host "canary", SSL off'), /without TLS/, false],
  [ofPostgres('XX000', 'connection is insecure (try using `sslmode=require`)'),
    /without TLS \(.* Add sslmode=verify-full/, false],
  [ofPostgres('08P01', 'SSL required'), /without TLS/, false],
  [ofPostgres('08P01', 'server login has been failing, try again later (server_login_retry)'), /08P01/, true]
]

await t.test('an error of a connection is described without values, and how to mend it', async (t) => {
  for (const [err, description, isPassing] of cases) {
    t.match(describeConnectError(err), description)
    t.notMatch(describeConnectError(err), 'canary')
    t.equal(mayPass(err), isPassing, describeConnectError(err))
  }
  t.equal(describeConnectError('thrown text'), 'thrown text')
  t.equal(mayPass('thrown text'), false)
})
