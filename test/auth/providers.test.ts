import type { JWTPayload } from 'jose'
import t from '../run/tap.js'
import { tableOf, textOf } from '../docs/markdown.js'
import { client, config, configs } from '../routes/client.js'
import { identityProvider, keySet, signingKey, type SigningKey } from './provider.js'

const now = Math.floor(Date.now() / 1000)
const times = { iat: now - 5, exp: now + 600 }
const user = 'd2b5c1a0-6f1e-4a9b-8f6d-0c3b2a190817'
const x5c = ['MIIC/zCCAeegAwIBAgIJA…']

interface Case {
  /** The members of the key beside `kty` and the numbers. */
  key: { alg: string, jwk: object }
  /** What the key set has besides, such as keys for encryption. */
  others?: () => Promise<Array<SigningKey | object>>
  header: Record<string, unknown>
  /** A token of the tenant `acme`; `admin` makes it an admin's. */
  claims: (admin: boolean) => JWTPayload
  tenant?: string
  /** Changes of the claims that make the token another application's or issuer's. */
  foreign: JWTPayload[]
}

/** The access tokens of each provider, with its own names and all claims that it sends. */
const cases: Record<string, Case> = {
  // auth0.com/docs/secure/tokens/access-tokens/access-token-profiles
  Auth0: {
    key: { alg: 'RS256', jwk: { kid: 'NjVBRjY5MDlCMUIwNzU4RTA2QzZFMDQ4QzQ2MDAyQjVDNjk1RTM2Qg', x5t: 'NjVBRjY5', x5c } },
    header: { typ: 'JWT' },
    claims: (admin) => ({
      'https://acme.example/tenant_id': 'acme',
      'https://acme.example/roles': admin ? ['editor', 'whatsapp-admin'] : ['editor'],
      iss: 'https://acme.eu.auth0.com/',
      sub: 'auth0|507f1f77bcf86cd799439011',
      aud: ['https://whatsapp.acme.example', 'https://acme.eu.auth0.com/userinfo'],
      ...times,
      scope: 'openid profile email',
      azp: 'my_client_id',
      permissions: []
    }),
    foreign: [{ iss: 'https://other.eu.auth0.com/' }, { aud: 'https://other.acme.example' }]
  },
  // keycloak.org/docs/latest/server_admin: the realm's keys for signing and for encryption are in one set
  Keycloak: {
    key: { alg: 'RS256', jwk: { kid: 'FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE', x5c, 'x5t#S256': 'zZ0' } },
    others: async () => [
      await signingKey('RS256', { kid: 'h3XN0ot', alg: 'RSA-OAEP', use: 'enc' }),
      { kty: 'oct', kid: 'a4bb', alg: 'HS512', use: 'sig', k: Buffer.alloc(64, 7).toString('base64url') }
    ],
    header: { typ: 'JWT' },
    claims: (admin) => ({
      ...times,
      auth_time: now - 5,
      jti: 'onrtac:6d5b0f9e-4c3a-2b1d-0e9f-8a7b6c5d4e3f',
      iss: 'https://sso.acme.example/realms/acme',
      aud: ['whatsapp', 'account'],
      sub: user,
      typ: 'Bearer',
      azp: 'acme-web',
      sid: '1f2e3d4c',
      acr: '1',
      'allowed-origins': ['https://app.acme.example'],
      realm_access: {
        roles: ['default-roles-acme', 'offline_access', 'uma_authorization', ...admin ? ['whatsapp-admin'] : []]
      },
      resource_access: { account: { roles: ['manage-account', 'view-profile'] } },
      scope: 'openid email profile',
      email_verified: true,
      tenant_id: 'acme',
      preferred_username: 'jane'
    }),
    foreign: [{ iss: 'https://sso.acme.example/realms/other' }, { aud: 'account' }]
  },
  // supabase.com/docs/guides/auth/jwt-fields
  Supabase: {
    key: { alg: 'ES256', jwk: { kid: 'b1a4c8d2-5e6f-4071-8293-a4b5c6d7e8f9', key_ops: ['verify'], ext: true } },
    header: { typ: 'JWT' },
    claims: (admin) => ({
      iss: 'https://abcdefghijklmnopqrst.supabase.co/auth/v1',
      sub: user,
      aud: 'authenticated',
      ...times,
      email: 'jane@acme.example',
      phone: '',
      app_metadata: {
        provider: 'email', providers: ['email'], tenant_id: 'acme', ...admin ? { role: 'whatsapp-admin' } : {}
      },
      user_metadata: { tenant_id: 'other', role: 'whatsapp-admin' },
      role: 'authenticated',
      aal: 'aal1',
      amr: [{ method: 'password', timestamp: now - 5 }],
      session_id: '5d4c3b2a',
      is_anonymous: false
    }),
    foreign: [{ iss: 'https://tsrqponmlkjihgfedcba.supabase.co/auth/v1' }, { aud: 'anon' }]
  },
  // docs.aws.amazon.com: amazon-cognito-user-pools-using-the-access-token
  Cognito: {
    key: { alg: 'RS256', jwk: { kid: 'aX1bY2cZ3dW4eV5fU6gT7hS8iR9jQ0kP1lO2mN3nM4o=' } },
    others: async () => [await signingKey('RS256', { kid: 'the-key-of-id-tokens=' })],
    header: { typ: undefined },
    claims: (admin) => ({
      sub: user,
      'cognito:groups': admin ? ['eu-central-1_Ab1Cd2Ef3_Google', 'whatsapp-admin'] : [],
      iss: 'https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Ab1Cd2Ef3',
      version: 2,
      client_id: '4lmn5opq6rstu7vwx8yz9abc0d',
      origin_jti: '7a6b5c4d',
      event_id: '3e2f1a0b',
      token_use: 'access',
      scope: 'openid profile email',
      auth_time: now - 5,
      ...times,
      jti: '9c8d7e6f',
      username: user,
      tenant_id: 'acme'
    }),
    foreign: [
      { iss: 'https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_Other1234' }, { client_id: 'other' },
      { client_id: undefined, aud: '4lmn5opq6rstu7vwx8yz9abc0d' }
    ]
  },
  // clerk.com/docs/guides/sessions/session-tokens, version 2
  Clerk: {
    key: { alg: 'RS256', jwk: { kid: 'ins_2aBcDeFgHiJkLmNoPqRsTuVwXyZ' } },
    header: { cat: 'cl_B7d4PD111AAA' },
    claims: (admin) => ({
      azp: 'https://app.acme.example',
      fva: [7, -1],
      iss: 'https://clerk.acme.example',
      jti: 'f0e1d2c3b4a5968778',
      nbf: now - 15,
      ...times,
      o: { id: 'org_2uVwXyZ1aBcDeFgHiJkLmNoPqRs', rol: 'admin', slg: 'acme', per: 'manage', fpm: '3' },
      fea: 'o:dashboard',
      pla: 'o:pro',
      ...admin ? { metadata: { role: 'whatsapp-admin' } } : { metadata: {} },
      sid: 'sess_2NmLkJiHgFeDcBa',
      sts: 'active',
      sub: 'user_2ZyXwVuTsRqPoNm',
      v: 2
    }),
    tenant: 'org_2uVwXyZ1aBcDeFgHiJkLmNoPqRs',
    foreign: [{ iss: 'https://clerk.other.example' }, { azp: 'https://evil.example' }, { azp: undefined }]
  },
  // learn.microsoft.com/entra/identity-platform/access-token-claims-reference; its keys have no alg
  Entra: {
    key: {
      alg: 'RS256',
      jwk: { kid: 'JYhAcTPMZ_LX6DBlOWQ7Hn0NeXE', x5t: 'JYhAcTPMZ_LX6DBlOWQ7Hn0NeXE', x5c, alg: undefined }
    },
    others: async () => [await signingKey('RS256', { kid: 'the-next-key' })],
    header: { typ: 'JWT' },
    claims: (admin) => ({
      aud: '6a7b8c9d-0e1f-4a2b-9c3d-4e5f6a7b8c9d',
      iss: 'https://login.microsoftonline.com/0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f1/v2.0',
      nbf: now - 5,
      ...times,
      aio: 'AXQAi/8TAAAA',
      azp: '2b3c4d5e-6f70-4182-93a4-b5c6d7e8f901',
      azpacr: '1',
      name: 'Jane Doe',
      oid: user,
      preferred_username: 'jane@acme.example',
      rh: '0.AXkA',
      ...admin ? { roles: ['WhatsApp.Admin'] } : {},
      scp: 'access_as_user',
      sub: 'HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ',
      tid: '0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0f1',
      uti: 'fqiBqXLPj0eQa82S-IYFAA',
      ver: '2.0',
      extension_1a2b3c4d5e6f40718293a4b5c6d7e8f9_tenant_id: 'acme'
    }),
    foreign: [
      { iss: 'https://login.microsoftonline.com/11111111-2222-4333-8444-555555555555/v2.0' },
      { aud: '00000003-0000-0000-c000-000000000000' }
    ]
  }
}

const columns = ['JWT_JWKS_URL', 'JWT_ISSUER', 'JWT_AUDIENCE']

/** The settings that docs/operations.md gives for each provider. */
const documented = Object.fromEntries(
  tableOf(textOf('docs/operations.md'), 'provider').map(([name = '', ...cells]) => {
    const [others = '', ...values] = cells.map((cell) => cell.replaceAll('`', '')).reverse()
    const pairs = others.split(' ').map((pair) => pair.split(/=(.*)/s).slice(0, 2))
    return [name, Object.fromEntries([...columns.map((column, i) => [column, values.reverse()[i]]), ...pairs])]
  })
)

t.same(Object.keys(documented), Object.keys(cases), 'the document has these providers')

for (const [name, { key: { alg, jwk }, others, header, claims, tenant = 'acme', foreign }] of Object.entries(cases)) {
  await t.test(`${name}: its tokens are accepted with the documented settings`, async (t) => {
    const key = await signingKey(alg, jwk)
    const provider = await identityProvider(t, keySet(...await others?.() ?? [], key))
    const { call, rows } = await client(t, {
      ...documented[name], NODE_ENV: 'production', JWT_JWKS_URL: provider.url
    })
    const ask = async (url: string, more: JWTPayload = {}, admin = false, headers = header) => {
      const authorization = `Bearer ${await key.sign({ ...claims(admin), ...more }, headers)}`
      return (await call({ authorization }, 'GET', url)).is
    }
    const authorization = `Bearer ${await key.sign(claims(false), header)}`
    t.equal((await call({ authorization }, 'POST', config, { waba_id: '1' })).is, '201')
    t.match(await rows(), [{ tenant_id: tenant, user_id: claims(false).sub }])
    t.equal(await ask(config), '200')
    t.equal(await ask(`${configs}/stats`), '403 FORBIDDEN')
    t.equal(await ask(`${configs}/stats`, {}, true), '200')
    for (const more of [...foreign, { exp: now - 31 }, { nbf: now + 90 }]) {
      t.equal(await ask(config, more), '401 UNAUTHENTICATED', JSON.stringify(more))
    }
    t.equal(await ask(config, {}, false, { ...header, kid: 'unknown' }), '401 UNAUTHENTICATED')
    t.equal(provider.fetches(), 2, 'one for all, and one for the unknown kid')
  })
}
