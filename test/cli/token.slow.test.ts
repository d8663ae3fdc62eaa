import { readdir } from 'node:fs/promises'
import t from '../run/tap.js'
import { readEnv } from '../../src/settings/env.js'
import { buildTestApp, JWT_SECRET } from '../helper.js'
import { refused, run } from './run.js'

const token = 'src/cli/token.ts'

await t.test('a printed token gives access as its options say', async (t) => {
  const { app } = await buildTestApp(t)
  const printed = async (...args: string[]) => {
    const { code, stdout, stderr } = await run(t, [token, ...args], { JWT_SECRET })
    t.strictSame([code, stderr], [0, ''])
    return stdout.trim()
  }
  const ask = async (bearer: string, url: string, payload?: object) => {
    const reply = await app.inject({
      url: `/api/v1/tenant${url}`,
      headers: { authorization: `Bearer ${bearer}` },
      ...(payload && { method: 'POST', payload })
    })
    return { status: reply.statusCode, body: reply.json() }
  }
  const tenant = await printed('--tenant', 'acmé 1', '--user', 'u1', '--scope', 'one two', '--expires', '60')
  const admin = await printed('--admin')
  t.match(
    await ask(tenant, '/config', { waba_id: '1' }),
    { status: 201, body: { tenant_id: 'acmé 1', user_id: 'u1' } }
  )
  t.equal((await ask(tenant, '/admin/configs/stats')).status, 403)
  t.match(await ask(admin, '/admin/configs/stats'), { status: 200, body: { total: 1 } })
  t.equal((await ask(admin, '/config')).status, 403)
  const claimsOf = (text: string) => {
    const { iat, exp, scope } = JSON.parse(Buffer.from(text.split('.')[1] ?? '', 'base64url').toString())
    return { lifetime: exp - iat, scope }
  }
  t.same([tenant, admin].map(claimsOf), [{ lifetime: 60, scope: 'one two' }, { lifetime: 3600, scope: undefined }])
})

await t.test('in local mode the secret of DATA_DIR signs the token, and is generated if missing', async (t) => {
  const local = { JWT_SECRET: '', ENCRYPTION_KEYS: '', DATA_DIR: t.testdir() }
  const { stdout } = await run(t, [token, '--admin', '--tenant', 'acme'], local)
  t.same((await readdir(local.DATA_DIR)).sort(), ['encryption-keys', 'jwt-secret'])
  const { JWT_SECRET, ENCRYPTION_KEYS } = await readEnv({ DATA_DIR: local.DATA_DIR })
  const { app } = await buildTestApp(t, { JWT_SECRET, ENCRYPTION_KEYS })
  for (const [url, status] of [['/api/v1/tenant/admin/configs/stats', 200], ['/api/v1/tenant/config', 404]] as const) {
    t.equal((await app.inject({ url, headers: { authorization: `Bearer ${stdout.trim()}` } })).statusCode, status)
  }
})

await t.test('without JWT_SECRET the command says why it prints no token', async (t) => {
  const provided = { JWT_SECRET: '', JWT_JWKS_URL: 'https://idp.example/jwks', DATA_DIR: t.testdir() }
  refused(t, await run(t, [token, '--admin'], provided), /^Without JWT_SECRET this service signs no token\. Get one/m)
  t.same(await readdir(provided.DATA_DIR), [], 'nothing is generated')
  const both = await run(t, [token, '--admin'], { ...provided, JWT_SECRET })
  t.match(both, { code: 0, stdout: /^eyJ/ })
})

await t.test('an invalid command line is answered with the usage', async (t) => {
  for (const args of [
    [], ['--tennant', 'a'], ['--tenant', ''], ['--tenant', 'a', '--user', ''], ['--tenant', 'a', '--expires', '0']
  ]) {
    refused(t, await run(t, [token, ...args]), /npm run -s token -- --tenant <id>/)
  }
})

await t.test('unusable settings are named without their values', async (t) => {
  const { stderr, ...rest } = await run(t, [token, '--admin'], {
    NODE_ENV: 'production',
    JWT_SECRET: 'canary',
    ENCRYPTION_KEYS: 'canary'
  })
  refused(t, { stderr, ...rest }, /DATABASE_URL is missing.*JWT_SECRET is not usable.*ENCRYPTION_KEYS is not usable/s)
  t.notMatch(stderr, /canary/)
})
