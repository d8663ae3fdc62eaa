import { createHash } from 'node:crypto'
import t from '../run/tap.js'
import { createSweeper } from '../../src/retention/retention.js'
import { newKey as newSealingKey } from '../helper.js'
import { config, full, onboard } from '../routes/client.js'
import { rotate } from '../vault/rotation/rotated.js'
import { essence, idempotencyService, isReplay, newKey, resume, sendTo } from './idempotency-service.js'

const service = await idempotencyService(t)
const { app, send, sql, keys, issue, login, meta, newTenant, newWaba, log } = service
const PIN = '190285'

/** Inserts keys of a tenant that expire `expiry` from now, one second apart. */
async function insertKeys (tenant: string, count: number, expiry: string, leased = '-1 second') {
  await sql(`insert into idempotency_keys (tenant_id, key_hash, fingerprint, lease_owner, leased_until, expires_at)
    select $1, 'key ' || i || $3, 't1.x', gen_random_uuid(), now() + $4::interval,
      now() + $3::interval - i * interval '1 s' from generate_series(1, $2) i`, [tenant, count, expiry, leased])
}
const countOf = async (tenant: string) => (await keys(tenant)).length

await t.test('no stored row has a secret of a request or an answer, or a hash of one', async (t) => {
  const { id: waba_id, phones: [phone] } = newWaba(2)
  const [tenant, creator] = [newTenant(), newTenant()]
  const code = issue({ waba_ids: [waba_id] })
  const masked = { access_token: '****masked-too' }
  const requests: Array<[string, string, Record<string, unknown>]> = [
    ['201', config, full],
    ['400 MASKED_VALUE', config, masked],
    ['409 META_PHONE_CHOICE_REQUIRED', onboard, { code, waba_id, pin: PIN }],
    ['200', resume, { phone_number_id: phone?.id, pin: PIN }],
    ['400 META_CODE_INVALID', onboard, login(tenant, { code: 'a-code-of-nobody', state: undefined })]
  ]
  const sent: string[] = []
  for (const [is, url, body] of requests) {
    const key = newKey()
    sent.push(key)
    t.equal((await send(url === config ? creator : tenant, key, url, body)).is, is)
  }
  const stored = [...await keys(tenant), ...await keys(creator)]
  t.equal(stored.length, requests.length)
  const dump = JSON.stringify(stored)
  const { access_token, fb_app_secret, verify_token, refresh_token } = full
  const secrets = [
    access_token, fb_app_secret, refresh_token, `"${verify_token}"`, masked.access_token, code, 'a-code-of-nobody',
    PIN, ...meta.state.tokens.keys(), ...sent
  ]
  t.ok(secrets.length > 10)
  for (const secret of secrets) {
    t.notOk(dump.includes(secret), secret)
    if (sent.includes(secret)) continue
    for (const encoding of ['base64url', 'hex'] as const) {
      t.notOk(dump.includes(createHash('sha256').update(secret).digest(encoding)), `the hash of ${secret}`)
    }
  }
  for (const { fingerprint } of stored) t.match(fingerprint, /^t1\.[\w-]{43}$/)
  t.match(stored.map(({ answer }) => answer).find((answer) => JSON.stringify(answer).includes('"status":201')), {
    status: 201, headers: { 'content-type': 'application/json; charset=utf-8', location: config }, body: /"\*{4}0001"/
  })
  t.notMatch(log(), new RegExp(sent.join('|')), 'no key is logged')
})

await t.test('a key of the former encryption key is recognised, and refused once that key is removed', async (t) => {
  const former = app.env.ENCRYPTION_KEYS
  const present = `n1:${newSealingKey()}`
  const turned = await service.instance({ ENCRYPTION_KEYS: `${present},${former}` })
  const [tenant, old, young] = [newTenant(), newKey(), newKey()]
  const [body, refused] = [{ waba_id: 'no secret' }, { access_token: '****1' }]
  const first = await send(tenant, old, config, body)
  t.equal(first.is, '201')
  t.same(essence(await sendTo(turned)(tenant, old, config, body)), essence(first))
  t.equal((await sendTo(turned)(tenant, old, config, refused)).is, '422 IDEMPOTENCY_KEY_REUSED')
  t.equal((await sendTo(turned)(tenant, young, config, refused)).is, '400 MASKED_VALUE')
  t.same((await keys(tenant)).map(({ fingerprint }) => String(fingerprint).split('.')[0]), ['t1', 'n1'])

  await sql("update idempotency_keys set answer = null, leased_until = now() where fingerprint ^@ 't1.'")
  const repeated = await sendTo(turned)(tenant, old, config, body)
  t.equal(repeated.is, '409 CONFIG_EXISTS', 'a lease under the former key is taken over')

  await rotate(service.databaseUrl, { keyRing: `${present},${former}` })
  const without = await service.instance({ ENCRYPTION_KEYS: present })
  t.ok(isReplay(await sendTo(without)(tenant, young, config, refused)))
  const lost = newTenant()
  await send(lost, old, config, body)
  t.equal((await sendTo(without)(lost, old, config, body)).is, '422 IDEMPOTENCY_KEY_REUSED', 'nobody can tell')
})

await t.test('a sweep deletes the expired keys, and no others', async (t) => {
  const tenant = newTenant()
  await insertKeys(tenant, 2500, '-1 second')
  await insertKeys(tenant, 3, '1 hour')
  const key = newKey()
  t.equal((await send(newTenant(), key, config, full)).is, '201')
  await createSweeper({ database: app.database, closing: new AbortController().signal, log: app.log }).sweep()
  t.equal(await countOf(tenant), 3)
  t.ok((await sql('select from idempotency_keys where answer is not null')).length > 0)
})

await t.test('a tenant keeps its 1000 newest keys, and those under a lease', async (t) => {
  const [tenant, bystander] = [newTenant(), newTenant()]
  await insertKeys(tenant, 1150, '20 hours')
  await insertKeys(tenant, 2, '1 hour', '10 seconds')
  await insertKeys(bystander, 1100, '20 hours')
  const key = newKey()
  t.equal((await send(tenant, key, config, full)).is, '201')
  t.equal(await countOf(tenant), 1053, 'a request deletes at most 100')
  t.ok(isReplay(await send(tenant, key, config, full)))
  await send(tenant, newKey(), config, full)
  t.equal(await countOf(tenant), 1002)
  t.equal((await sql('select from idempotency_keys where tenant_id = $1 and leased_until > now() and answer is null',
    [tenant])).length, 2)
  t.equal(await countOf(bystander), 1100)
})
