import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Test } from 'tap'
import t from './run/tap.js'
import { createDatabase, newKey, until } from './helper.js'
import { start, workDir, type Server } from './started-server.js'

// Each process compiles our sources again.
t.setTimeout(300_000)

const canary = `canary-${randomBytes(8).toString('hex')}`
const secrets = { JWT_SECRET: `${canary}-${'x'.repeat(32)}`, ENCRYPTION_KEYS: `k1:${newKey()}` }

// Throws at a chosen moment, in code that runs in the same process.
const throwing = (fault: string) => [
  '--import',
  encodeURI(`data:text/javascript,process.once('SIGWINCH', () => { ${fault} })`)
]

/** Asserts that an uncaught error ends the process and that no value is logged. */
async function assertCrash (t: Test, server: Server): Promise<void> {
  await server.origin()
  server.child.kill('SIGWINCH')
  t.same(await server.ended, [1, null])
  t.match(
    server.out(),
    /"level":60,.*"err":\{"type":"Error","stack":" +at .*"msg":"closing on an error that nobody caught"/
  )
  t.notMatch(server.out() + server.err(), canary)
}

await t.test('a production start refuses unusable settings, and an uncaught error ends the process', async (t) => {
  const dir = workDir(t)
  const DATABASE_URL = await createDatabase(t)
  const production = { ...secrets, NODE_ENV: 'production', DATABASE_URL, LOG_LEVEL: 'trace', CANARY: canary }

  const refused = start(t, dir, {
    ...production,
    DATABASE_URL: `mysql://u:${canary}@h/x`,
    JWT_SECRET: canary.slice(0, 20),
    ENCRYPTION_KEYS: `k1:${canary}`,
    PORT: canary
  })
  const unreachable = start(t, dir, {
    ...production, DATABASE_URL: `postgres://u:${canary}@127.0.0.1:1/x`, DATABASE_START_TIMEOUT_MS: '0'
  })
  t.same(await refused.ended, [1, null])
  t.match(
    refused.err(),
    new RegExp(
      '^The service did not start: Some settings cannot be used:\\n' +
        '( {2}(PORT|DATABASE_URL|JWT_SECRET|ENCRYPTION_KEYS) is not usable: .+\\n){4}$'
    )
  )
  t.notMatch(refused.out() + refused.err(), canary.slice(0, 20))
  t.same(await unreachable.ended, [1, null])
  t.match(
    unreachable.err(),
    new RegExp(
      '^The service did not start: The database cannot be reached: nothing listens at its host and port ' +
        '\\(ECONNREFUSED\\)\\. Start PostgreSQL, or correct host and port in DATABASE_URL\\.\\n$'
    )
  )
  t.notMatch(unreachable.out() + unreachable.err(), canary)
  t.notOk(existsSync(join(dir, '.data')))

  const server = start(t, dir, production, throwing('throw new Error(process.env.CANARY)'))
  const { port } = new URL(await server.origin())
  t.equal((await fetch(`http://127.0.0.1:${port}/health/ready`)).status, 200)
  // One line for each address: the others may come after the first.
  await until(() => RegExp(`"msg":"Server listening at http://(?!127\\.)[\\d.]+:${port}"`).test(server.out()))
  await assertCrash(t, server)
  t.notMatch(server.out() + server.err(), /eyJ|curl/, 'no token is printed')
})

await t.test('an unhandled rejection ends the process, and no value is logged', async (t) => {
  const DATABASE_URL = await createDatabase(t)
  const fault = 'Promise.reject(Object.assign(new Error(process.env.CANARY), { params: [process.env.CANARY] }))'
  await assertCrash(t, start(t, workDir(t), { ...secrets, DATABASE_URL, CANARY: canary }, throwing(fault)))
})
