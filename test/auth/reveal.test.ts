import { createHmac } from 'node:crypto'
import t from '../run/tap.js'
import { JWT_SECRET } from '../helper.js'
import { client, config, full } from '../routes/client.js'

const fullConfig = `${config}/full`
const SCOPE = 'tenant-config:reveal'

/** The header of a token of the tenant `acme` with further claims. */
function bearer (claims: object): { authorization: string } {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const exp = Math.floor(Date.now() / 1000) + 60
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ tenant_id: 'acme', exp, ...claims })}`
  return { authorization: `Bearer ${signed}.${createHmac('sha256', JWT_SECRET).update(signed).digest('base64url')}` }
}

await t.test('with tenant, the default, every token of the tenant reads the secrets', async (t) => {
  const { call } = await client(t)
  await call(bearer({}), 'POST', config, full)
  for (const claims of [{}, { scope: 'other' }, { scope: ['x'] }, { role: 'admin' }]) {
    const { is, body } = await call(bearer(claims), 'GET', fullConfig)
    t.strictSame([is, body.access_token], ['200', full.access_token])
  }
})

await t.test('with scope, only a token with exactly that scope reads the secrets', async (t) => {
  const { call, app } = await client(t, { FULL_CONFIG_ACCESS: 'scope' })
  await call(bearer({}), 'POST', config, full)
  const read = async (claims: object) => await call(bearer(claims), 'GET', fullConfig)
  for (const claims of [
    { scope: SCOPE }, { scope: `openid ${SCOPE}` }, { scope: `${SCOPE} profile` }, { scope: ` ${SCOPE} ` },
    { scp: SCOPE }, { scp: `User.Read ${SCOPE}` }, { scp: [SCOPE] }, { scp: ['openid', SCOPE] },
    { scope: 'openid', scp: [SCOPE] }, { scope: 7, scp: SCOPE }
  ]) {
    const { is, body } = await read(claims)
    t.strictSame([is, body.access_token], ['200', full.access_token], JSON.stringify(claims))
  }
  for (const claims of [
    {}, { scope: '' }, { scope: 'openid' }, { scope: `a ${SCOPE}-x` }, { scope: `x-${SCOPE}` }, { scope: `a:${SCOPE}` },
    { scope: `${SCOPE},openid` }, { scope: `${SCOPE}\topenid` }, { scope: `${SCOPE}\n` }, { scope: `"${SCOPE}"` },
    { scope: SCOPE.toUpperCase() }, { scope: SCOPE.split(':')[0] }, { scope: `${SCOPE}*` }, { scope: '*' },
    { scope: [SCOPE] }, { scope: { [SCOPE]: true } }, { scope: 1 }, { scope: true }, { scope: null },
    { scp: [`openid ${SCOPE}`] }, { scp: [[SCOPE]] }, { scp: { 0: SCOPE } }, { scp: [{ scope: SCOPE }] }, { scp: 1 },
    { scopes: [SCOPE] }, { Scope: SCOPE }, { role: SCOPE }, { roles: [SCOPE, 'admin'] }, { tenant: { scope: SCOPE } },
    { [SCOPE]: true }, { length: 1, scope: { includes: SCOPE } }
  ]) {
    const { is, body, headers } = await read(claims)
    t.equal(is, '403 SCOPE_MISSING', JSON.stringify(claims))
    t.equal(headers['www-authenticate'], `Bearer error="insufficient_scope", scope="${SCOPE}"`)
    t.notMatch(JSON.stringify(body), full.access_token)
    t.equal((await call(bearer(claims), 'HEAD', fullConfig)).is, '403')
  }
  const minted = { authorization: `Bearer ${app.auth.mint({ tenantId: 'acme', scope: `a ${SCOPE}` }, 60)}` }
  t.equal((await call(minted, 'GET', fullConfig)).is, '200')
  t.equal((await call(bearer({}), 'GET', config)).is, '200', 'the masked configuration needs no scope')
  t.equal((await call(bearer({}), 'PUT', config, { waba_id: '1' })).is, '200')
})

await t.test('FULL_CONFIG_SCOPE names the scope', async (t) => {
  const { call } = await client(t, { FULL_CONFIG_ACCESS: 'scope', FULL_CONFIG_SCOPE: 'https://api.example/.default' })
  await call(bearer({}), 'POST', config, full)
  t.equal((await call(bearer({ scp: 'https://api.example/.default' }), 'GET', fullConfig)).is, '200')
  const { is, headers } = await call(bearer({ scope: SCOPE }), 'GET', fullConfig)
  t.strictSame([is, headers['www-authenticate']], [
    '403 SCOPE_MISSING', 'Bearer error="insufficient_scope", scope="https://api.example/.default"'
  ])
})

await t.test('with off, no token reads the secrets', async (t) => {
  const { call } = await client(t, { FULL_CONFIG_ACCESS: 'off' })
  await call(bearer({}), 'POST', config, full)
  for (const claims of [{}, { scope: SCOPE }, { role: 'admin', scope: SCOPE }]) {
    const { is, body } = await call(bearer(claims), 'GET', fullConfig)
    t.equal(is, '403 REVEAL_DISABLED')
    t.notMatch(JSON.stringify(body), full.access_token)
  }
  t.equal((await call(bearer({}), 'GET', config)).is, '200')
})

await t.test('a refusal comes before validation and before 404, and after the checks of the token', async (t) => {
  for (const [access, is] of [['scope', '403 SCOPE_MISSING'], ['off', '403 REVEAL_DISABLED']] as const) {
    const { call } = await client(t, { FULL_CONFIG_ACCESS: access })
    t.equal((await call(bearer({}), 'GET', fullConfig)).is, is, 'without a configuration')
    t.equal((await call(bearer({}), 'GET', `${fullConfig}?x=1`)).is, is)
    t.equal((await call({}, 'GET', fullConfig)).is, '401 UNAUTHENTICATED')
    t.equal((await call(bearer({ tenant_id: '' }), 'GET', fullConfig)).is, '403 TENANT_CLAIM_INVALID')
    if (access === 'off') continue
    t.equal((await call(bearer({ scope: SCOPE }), 'GET', fullConfig)).is, '404 CONFIG_NOT_FOUND')
    t.equal((await call(bearer({ scope: SCOPE }), 'GET', `${fullConfig}?x=1`)).is, '400 VALIDATION_FAILED')
  }
})
