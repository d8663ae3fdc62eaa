import t from '../run/tap.js'
import { createClaimReader, type ClaimSettings, type Claims } from '../../src/auth/claims.js'
import { formatChallenge } from '../../src/auth/refusal.js'

const defaults = {
  JWT_TENANT_CLAIM: 'tenant_id',
  JWT_ROLE_CLAIM: 'role',
  JWT_ADMIN_ROLE: 'admin',
  JWT_AUDITOR_ROLE: 'auditor',
  JWT_AUDIENCE_CLAIM: 'aud'
}

/** Reads claims as they come from JSON; `refused` with its description if a check fails. */
function read (settings: Partial<ClaimSettings>, claims: object | string) {
  const json = typeof claims === 'string' ? claims : JSON.stringify({ exp: 4102444800, ...claims })
  const parsed: Claims = JSON.parse(json)
  try {
    return createClaimReader({ ...defaults, ...settings }).read(parsed)
  } catch (err) {
    return `refused: ${/description="(.*)"$/.exec(formatChallenge(Object(err)))?.[1]}`
  }
}

await t.test('a claim is found by its name, or by a JSON Pointer', (t) => {
  for (const [setting, claims, expected] of [
    ['tenant_id', { tenant_id: 'acme' }, 'acme'],
    ['https://acme.example/tenant', { 'https://acme.example/tenant': 'acme' }, 'acme'],
    ['custom:tenant', { 'custom:tenant': 'acme' }, 'acme'],
    ['a~b', { 'a~b': 'acme' }, 'acme'],
    ['app_metadata.tenant_id', { app_metadata: { tenant_id: 'acme' } }, undefined],
    ['/tenant_id', { tenant_id: 'acme' }, 'acme'],
    ['/app_metadata/tenant_id', { app_metadata: { tenant_id: 'acme' } }, 'acme'],
    ['/app_metadata/tenant_id', { '/app_metadata/tenant_id': 'acme' }, undefined],
    ['/app_metadata/tenant_id', { app_metadata: 'acme' }, undefined],
    ['/app_metadata/tenant_id', { app_metadata: null }, undefined],
    ['/app_metadata/tenant_id', {}, undefined],
    ['/https:~1~1acme.example~1tenant', { 'https://acme.example/tenant': 'acme' }, 'acme'],
    ['/a~0b', { 'a~b': 'acme' }, 'acme'],
    ['/a~01', { 'a~1': 'acme', 'a/': 'other' }, 'acme'],
    ['/', { '': 'acme' }, 'acme'],
    ['/o/', { o: { '': 'acme' } }, 'acme'],
    ['/tenants/0', { tenants: ['acme', 'other'] }, 'acme'],
    ['/tenants/1/id', { tenants: [{ id: 'other' }, { id: 'acme' }] }, 'acme'],
    ['/tenants/00', { tenants: ['acme'] }, undefined],
    ['/tenants/-', { tenants: ['acme'] }, undefined],
    ['/tenants/length', { tenants: ['acme'] }, undefined],
    ['/tenant/length', { tenant: 'acme' }, undefined],
    ['/tenant/0', { tenant: 'acme' }, undefined],
    ['constructor', {}, undefined],
    ['/constructor/name', {}, undefined],
    ['/a/constructor/name', { a: {} }, undefined],
    ['/__proto__/constructor', {}, undefined],
    ['__proto__', '{"exp":4102444800,"__proto__":"acme"}', 'acme']
  ] as Array<[string, object | string, unknown]>) {
    t.match(read({ JWT_TENANT_CLAIM: setting }, claims), { tenantId: expected }, setting)
  }
  t.end()
})

await t.test('an integer tenant is its digits, as far as a number is exact', (t) => {
  for (const [json, expected] of [
    ['0', '0'], ['42', '42'], ['1.0', '1'], ['1e3', '1000'], ['9007199254740991', '9007199254740991'],
    ['9007199254740992', 2 ** 53], ['9007199254740993', 2 ** 53], ['90071992547409910', Number('90071992547409910')],
    ['1e21', 1e21], ['1e999', Infinity], ['-1', -1], ['1.5', 1.5],
    ['"42"', '42'], ['true', true], ['["42"]', ['42']]
  ] as Array<[string, unknown]>) {
    t.strictSame(read({}, `{"exp":4102444800,"tenant_id":${json}}`), {
      tenantId: expected, role: 'tenant', userId: undefined, scopes: []
    }, json)
  }
  t.end()
})

await t.test('the role is a text or a list, by name or pointer', (t) => {
  for (const [settings, claims, expected] of [
    [{}, { role: 'admin' }, true],
    [{}, { roles: ['x', 'admin'] }, true],
    [{ JWT_ROLE_CLAIM: '/realm_access/roles' }, { realm_access: { roles: ['x', 'admin'] } }, true],
    [{ JWT_ROLE_CLAIM: '/realm_access/roles' }, { roles: ['admin'], role: 'admin' }, false],
    [{ JWT_ROLE_CLAIM: '/role' }, { roles: ['admin'] }, false],
    [{ JWT_ROLE_CLAIM: 'cognito:groups', JWT_ADMIN_ROLE: 'ops' }, { 'cognito:groups': ['ops'] }, true],
    [{ JWT_ROLE_CLAIM: '/realm_access' }, { realm_access: { admin: true } }, false]
  ] as Array<[Partial<ClaimSettings>, object, boolean]>) {
    t.match(read(settings, claims), { role: expected ? 'admin' : 'tenant' }, JSON.stringify(claims))
  }
  t.end()
})

await t.test('the scopes are a text in scope, and a text or a list in scp', (t) => {
  for (const [claims, expected] of [
    [{}, []],
    [{ scope: 'one two' }, ['one', 'two']],
    [{ scp: 'one two' }, ['one', 'two']],
    [{ scp: ['one', 'two three'] }, ['one', 'two three']],
    [{ scope: 'one', scp: ['two'] }, ['one', 'two']],
    [{ scope: ['one'] }, []],
    [{ scope: { one: 'one' }, scp: { one: 'one' } }, []],
    [{ scope: 1, scp: 1 }, []],
    [{ scope: null, scp: null }, []],
    [{ scp: [['one'], 1, null] }, [['one'], 1, null]],
    [{ scopes: ['one'], Scope: 'one', roles: ['one'], a: { scope: 'one' } }, []]
  ] as Array<[object, unknown[]]>) {
    t.strictSame(Object(read({}, claims)).scopes, expected, JSON.stringify(claims))
  }
  t.end()
})

await t.test('issuer and audience must be in their lists', (t) => {
  const settings = { JWT_ISSUER: 'https://a.example/, https://b.example', JWT_AUDIENCE: 'one,two' }
  const issuer = 'refused: The issuer of the token is not accepted'
  const audience = 'refused: The audience of the token is not accepted'
  const good = { iss: 'https://b.example', aud: 'one' }
  for (const [more, claims, expected] of [
    [{}, good, {}],
    [{}, { ...good, iss: 'https://a.example/' }, {}],
    [{}, { ...good, iss: 'https://a.example' }, issuer],
    [{}, { ...good, iss: 'https://b.example/' }, issuer],
    [{}, { ...good, iss: settings.JWT_ISSUER }, issuer],
    [{}, { ...good, iss: ['https://b.example'] }, issuer],
    [{}, { ...good, iss: undefined }, issuer],
    [{}, { ...good, aud: ['x', 'two'] }, {}],
    [{}, { ...good, aud: [] }, audience],
    [{}, { ...good, aud: ['x', ['one']] }, audience],
    [{}, { ...good, aud: { one: 'one' } }, audience],
    [{}, { ...good, aud: 'One' }, audience],
    [{}, { ...good, aud: 'one,two' }, audience],
    [{}, { ...good, aud: undefined, client_id: 'one' }, audience],
    [{ JWT_AUDIENCE_CLAIM: 'client_id' }, { ...good, aud: 'x', client_id: 'one' }, {}],
    [{ JWT_AUDIENCE_CLAIM: 'client_id' }, { ...good, client_id: 'x' }, audience],
    [{ JWT_AUDIENCE_CLAIM: 'azp' }, good, audience],
    [{ JWT_AUDIENCE_CLAIM: '/o/azp' }, { ...good, o: { azp: 'two' } }, {}]
  ] as Array<[object, object, object | string]>) {
    t.match(read({ ...settings, ...more }, claims), expected, JSON.stringify([more, claims]))
  }
  t.end()
})

await t.test('what is written is read again', (t) => {
  for (const settings of [
    {},
    { JWT_TENANT_CLAIM: '/app_metadata/tenant_id', JWT_ROLE_CLAIM: '/app_metadata/role' },
    { JWT_TENANT_CLAIM: '/__proto__/tenant', JWT_ROLE_CLAIM: '__proto__role' },
    { JWT_TENANT_CLAIM: '/a~1b/~0/0', JWT_ROLE_CLAIM: 'https://acme.example/roles' },
    { JWT_ISSUER: 'one, two', JWT_AUDIENCE: 'three, four', JWT_AUDIENCE_CLAIM: '/client/id' }
  ] as Array<Partial<ClaimSettings>>) {
    const { write } = createClaimReader({ ...defaults, ...settings })
    for (const [roles, role] of [
      [{}, 'tenant'], [{ admin: true }, 'admin'], [{ auditor: true }, 'auditor'],
      [{ admin: true, auditor: true }, 'admin']
    ] as const) {
      const written = write({ tenantId: 'acme', userId: 'user', scope: 'one two', ...roles })
      t.strictSame(read(settings, JSON.stringify({ ...written, exp: 1 })), {
        tenantId: 'acme', role, userId: 'user', scopes: ['one', 'two']
      }, JSON.stringify(settings))
    }
  }
  t.equal(Object.hasOwn(Object.prototype, 'tenant'), false)
  t.strictSame(createClaimReader(defaults).write({}), {})
  t.end()
})
