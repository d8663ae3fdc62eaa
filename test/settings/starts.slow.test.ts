import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import pLimit from 'p-limit'
import t from '../run/tap.js'
import { createDatabase, JWT_SECRET, newKey, until } from '../helper.js'
import { start, workDir } from '../started-server.js'

// 48 starts, each of which compiles our sources again.
t.setTimeout(600_000)

const DATABASE_URL = await createDatabase(t)
const secrets = { JWT_SECRET, ENCRYPTION_KEYS: `k1:${newKey()}` }
const provider = { JWT_JWKS_URL: 'http://127.0.0.1:9/jwks', JWT_ISSUER: 'https://idp.example', JWT_AUDIENCE: 'wtc' }
const limit = pLimit(2)

/** Starts the service, ends it once it listens, and returns its output and the files that it generated. */
async function serve (settings: Record<string, string>, database: string) {
  const cwd = workDir(t)
  const file = join(cwd, 'database-url')
  if (database === 'from a file') writeFileSync(file, DATABASE_URL)
  const { child, out, err, ended } = start(t, cwd, {
    ...settings,
    ...(database === 'given' ? { DATABASE_URL } : {}),
    ...(database === 'from a file' ? { DATABASE_URL_FILE: file } : {})
  })
  await until(() => out().includes('Server listening at') || child.exitCode !== null, 120_000)
  child.kill('SIGTERM')
  await ended
  const dir = join(cwd, '.data')
  return {
    listened: out().includes('Server listening at'),
    printed: out() + err(),
    dir: existsSync(dir),
    generated: existsSync(dir) ? readdirSync(dir).filter((name) => /secret|keys/.test(name)).sort() : []
  }
}

await t.test('tokens are printed and keys generated in local mode only', async (t) => {
  const combinations = ['development', 'production'].flatMap((NODE_ENV) =>
    ['none', 'given', 'from a file'].flatMap((database) =>
      ['127.0.0.1', '0.0.0.0'].flatMap((HOST) =>
        [{}, provider].flatMap((identity) =>
          [{}, secrets].map((given) => ({ NODE_ENV, database, HOST, identity, given }))))))
  t.equal(combinations.length, 48)
  await Promise.all(combinations.map(async ({ database, identity, given, ...rest }) => await limit(async () => {
    const { NODE_ENV, HOST } = rest
    const result = await serve({ ...rest, ...identity, ...given }, database)
    const name = JSON.stringify({ ...rest, database, provider: identity === provider, secrets: given === secrets })
    const isLocal = NODE_ENV === 'development' && database === 'none' && HOST === '127.0.0.1'
    const generates = isLocal && given !== secrets
    const signs = generates && identity !== provider
    t.same(result.generated, [...generates ? ['encryption-keys'] : [], ...signs ? ['jwt-secret'] : []], name)
    t.equal(/eyJ|curl|Local mode/.test(result.printed), signs, `${name}: tokens are printed`)
    const starts = generates || (given === secrets && (NODE_ENV !== 'production' || database !== 'none'))
    t.equal(result.listened, starts, `${name}: starts`)
    if (database !== 'none') t.notOk(result.dir, `${name}: nothing is written for another database`)
    for (const secret of Object.values(secrets)) t.notOk(result.printed.includes(secret), name)
  })))
})
