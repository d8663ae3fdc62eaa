import type { Test } from 'tap'
import t from '../run/tap.js'
import type { ConfigSnapshot } from '../../src/app.js'
import { callback, onboardingService, stepIn, type Body } from '../onboarding/onboarding-service.js'
import { app as graphApp } from '../meta/wire.js'
import { until } from '../helper.js'
import { config } from '../routes/client.js'

t.setTimeout(120_000)

const service = await onboardingService(t)
const { app, meta, as, admin, call, sql, post, resume, record, configure, issue, asked, instance } = service
const hook = await callback(t, 'the verify token')
const platform = meta.state.apps.get(graphApp.id)
if (platform !== undefined) platform.callback_url = 'https://platform.example/hook'

/** The name of a tenant without the suffix of its world. */
const nameOf = (snapshot: ConfigSnapshot | null) => snapshot?.getTenantId()?.replace(/ .*/, '') ?? null

let worlds = 0
/** Creates an account with two numbers, and names of tenants that no other world uses. */
function createWorld () {
  const n = ++worlds
  const { id: waba } = meta.state.addWaba({ app_ids: [graphApp.id], phones: [{ id: `${n}000` }, { id: `${n}001` }] })
  const [number, otherNumber] = [`${n}000`, `${n}001`]
  const token = () => meta.state.issueToken({ app_id: graphApp.id })
  const claim = { waba_id: waba, phone_number_id: number }
  const tenant = (name: string) => `${name} ${n}`
  const claims = async (name: string, body: Body = {}) =>
    (await configure(tenant(name), 'POST', { ...claim, access_token: token(), ...body })).is
  const verifies = async (name: string) => (await call(as(tenant(name)), 'POST', `${config}/verify`)).is
  const onboards = async (name: string, phone: string) =>
    (await post(tenant(name), { code: issue(), waba_id: waba, phone_number_id: phone })).is
  return { waba, number, otherNumber, token, tenant, claims, verifies, onboards }
}

const INDEX = 'verified_identities_phone_number_id_key'

type World = ReturnType<typeof createWorld>

async function pasteAndVerify (world: World, name: string, body: Body = {}): Promise<string> {
  return [await world.claims(name, body), await world.verifies(name)].join()
}

const put = async (world: World, name: string, body: Body) => (await configure(world.tenant(name), 'PUT', body)).is

const claimsUnverified = async (world: World) => await world.claims('claimant', { access_token: 'made-up' })
const owns = async (world: World) => await pasteAndVerify(world, 'owner')

const renewsToken = async (world: World) => await put(world, 'owner', { access_token: world.token() })
const moves = async (world: World) => await put(world, 'owner', { waba_id: 'elsewhere' })
const leaves = async (world: World) => (await configure(world.tenant('owner'), 'DELETE')).is

/** The steps that set up each situation, and their expected statuses. */
const situations: Array<[situation: string, steps: Array<(world: World) => Promise<string>>, statuses: string[]]> = [
  ['an unverified claimant', [claimsUnverified], ['201']],
  ['a verified owner', [owns], ['201,200']],
  ['a claimant and an owner', [claimsUnverified, owns], ['201', '201,200']],
  ['an owner with a new token', [owns, renewsToken], ['201,200', '200']],
  ['an owner that changed its ids', [owns, moves], ['201,200', '200']],
  ['an owner that left', [owns, leaves], ['201,200', '204']]
]

/** Each question with its expected answers, in the order of the situations. */
const questions: Array<[question: string, ask: (world: World, t: Test) => Promise<unknown>, answers: unknown[]]> = [
  ['forPhoneNumber', async ({ number }) => nameOf(await app.configLoader.forPhoneNumber(number)),
    [null, 'owner', 'owner', 'owner', null, null]],
  ['forWaba', async ({ waba }) => (await app.configLoader.forWaba(waba)).map(nameOf),
    [[], ['owner'], ['owner'], ['owner'], [], []]],
  ['isVerified() of the owner', async ({ tenant }) => (await app.configLoader.forTenant(tenant('owner'))).isVerified(),
    [false, true, true, true, false, false]],
  ['isVerified() of the claimant',
    async ({ tenant }) => (await app.configLoader.forTenant(tenant('claimant'))).isVerified(),
    [false, false, false, false, false, false]],
  ['the callback of a neighbour on the account', subscribesFor,
    ['account', 'phone_number', 'phone_number', 'phone_number', 'account', 'account']],
  ['unsubscribe calls when a neighbour leaves', unsubscribeCalls, [1, 0, 0, 0, 1, 1]],
  ['store of the number by another tenant', async (world) => await world.onboards('other', world.number),
    ['201', '409 PHONE_NUMBER_TAKEN', '409 PHONE_NUMBER_TAKEN', '201', '201', '201']],
  ['verify of the number by another tenant', async (world) => await pasteAndVerify(world, 'other'),
    ['201,200', '201,409 PHONE_NUMBER_TAKEN', '201,409 PHONE_NUMBER_TAKEN', '201,200', '201,200', '201,200']],
  ['POST of the number by another tenant', async (world) => await world.claims('other'), Array(6).fill('201')],
  ['PUT of the number by another tenant', async (world) => {
    await configure(world.tenant('other'), 'POST', { waba_id: world.waba })
    return await put(world, 'other', { phone_number_id: world.number })
  }, Array(6).fill('200')],
  ['the unique index', async ({ waba, number, tenant }) => {
    const insert = 'insert into verified_identities (tenant_id, waba_id, phone_number_id) values ($1, $2, $3)'
    return await sql(insert, [tenant('other'), waba, number]).then(() => 'free', ({ constraint }) => constraint)
  }, ['free', INDEX, INDEX, INDEX, 'free', 'free']]
]

/** Onboards a neighbour with the other number and a callback; returns the level at which the callback is set. */
async function subscribesFor (world: World, t: Test): Promise<unknown> {
  await configure(world.tenant('neighbour'), 'POST', { callback_url: hook.url, verify_token: 'the verify token' })
  t.equal(await world.onboards('neighbour', world.otherNumber), '200')
  const { evidence } = stepIn(await record(world.tenant('neighbour')), 'subscribe')
  return Object(evidence).callback
}

/** Offboards a verified neighbour; returns the number of unsubscribe calls. */
async function unsubscribeCalls (world: World, t: Test): Promise<number> {
  t.equal(await pasteAndVerify(world, 'neighbour', { phone_number_id: world.otherNumber }), '201,200')
  const before = asked('unsubscribe').length
  await call(as(world.tenant('neighbour')), 'DELETE', `${config}?unsubscribe=true`)
  return asked('unsubscribe').length - before
}

for (const [question, ask, answers] of questions) {
  await t.test(question, async (t) => {
    for (const [index, [situation, steps, statuses]] of situations.entries()) {
      const world = createWorld()
      // Lookups by number and WABA cache "not found", which the steps must invalidate.
      await Promise.all([app.configLoader.forPhoneNumber(world.number), app.configLoader.forWaba(world.waba)])
      const done: string[] = []
      for (const step of steps) done.push(await step(world))
      t.strictSame(done, statuses, situation)
      t.strictSame(await ask(world, t), answers[index], situation)
    }
  })
}

await t.test('a number that moves to another tenant is found there; its former owner is unverified', async (t) => {
  const byVerify = async (world: World) => await pasteAndVerify(world, 'other')
  const byStore = async (world: World) => await world.onboards('other', world.number)
  for (const [move, status] of [[byVerify, '201,200'], [byStore, '201']] as const) {
    const world = createWorld()
    await pasteAndVerify(world, 'owner')
    await put(world, 'owner', { access_token: world.token() })
    t.equal((await app.configLoader.forTenant(world.tenant('owner'))).isVerified(), true)
    t.equal(await move(world), status)
    t.equal((await app.configLoader.forPhoneNumber(world.number))?.getTenantId(), world.tenant('other'))
    const former = await app.configLoader.forTenant(world.tenant('owner'))
    t.strictSame([former.isVerified(), former.getPhoneId()], [false, world.number], 'its row is unchanged')
    t.equal(await world.verifies('owner'), '409 PHONE_NUMBER_TAKEN')
    await call(as(world.tenant('other')), 'DELETE', config)
    t.equal(await world.verifies('owner'), '200', 'the former owner verifies the free number again')
    t.equal((await app.configLoader.forPhoneNumber(world.number))?.getTenantId(), world.tenant('owner'))
  }
})

await t.test('a change of the owner invalidates the cached lookups of another instance', async (t) => {
  const world = createWorld()
  const { app: { configLoader } } = await instance({ CONFIG_CACHE_TTL_MS: 600_000 })
  const sees = async () => [
    nameOf(await configLoader.forPhoneNumber(world.number)),
    (await configLoader.forWaba(world.waba)).map(nameOf).join(),
    (await configLoader.forTenant(world.tenant('owner'))).isVerified()
  ].join()
  const isSeen = async (expected: string) => {
    await until(async () => await sees() === expected)
    t.equal(await sees(), expected)
  }
  await isSeen(',,false')
  await pasteAndVerify(world, 'owner')
  await isSeen('owner,owner,true')
  await put(world, 'owner', { access_token: world.token() })
  await isSeen('owner,owner,true')
  await pasteAndVerify(world, 'other')
  await isSeen('other,other,false')
  await sql('delete from verified_identities where tenant_id = $1', [world.tenant('other')])
  await isSeen(',,false')
})

await t.test('a verification of a number of another owner is a 409 and records the token state', async (t) => {
  const world = createWorld()
  await pasteAndVerify(world, 'owner')
  await world.claims('other')
  const health = async () => (await call(as(world.tenant('other')), 'GET', `${config}/health`)).body
  t.match(await health(), { token_status: 'unverified', checked_at: null })
  const { is, body } = await call(as(world.tenant('other')), 'POST', `${config}/verify`)
  t.equal(is, '409 PHONE_NUMBER_TAKEN')
  t.notMatch(JSON.stringify(body), new RegExp(`owner|${world.number}|${world.waba}`), 'no owner')
  t.match(await health(), { token_status: 'ok', checked_at: String })
  t.match((await configure(world.tenant('other'), 'GET')).body, { last_verified_at: null, onboarding_completed: false })
})

await t.test('one of two tenants that claim a number concurrently gets it, and the other a 409', async (t) => {
  for (let times = 0; times < 6; times++) {
    const world = createWorld()
    const [first, second] = ['first', 'second']
    if (times % 3 !== 0) await Promise.all([first, second].map(async (name) => await world.claims(name)))
    const byVerify = async (name: string) => await world.verifies(name)
    const byStore = async (name: string) => await world.onboards(name, world.number)
    const [one, other] = [[byStore, byStore], [byVerify, byVerify], [byVerify, byStore]][times % 3] ?? []
    const answers = await Promise.all([one?.(first), other?.(second)])
    const winner = answers.findIndex((answer) => /^20[01]$/.test(String(answer)))
    t.match(answers.toSorted(), [/^20[01]$/, '409 PHONE_NUMBER_TAKEN'])
    const owner = await app.configLoader.forPhoneNumber(world.number)
    t.equal(owner?.getTenantId(), world.tenant(winner === 0 ? first : second))
  }
})

await t.test('an onboarding refused because of an owner is resumed after the owner left', async (t) => {
  const world = createWorld()
  await pasteAndVerify(world, 'owner')
  t.equal(await world.onboards('other', world.number), '409 PHONE_NUMBER_TAKEN')
  t.equal((await configure(world.tenant('other'), 'GET')).is, '404 CONFIG_NOT_FOUND', 'nothing is stored')
  await call(as(world.tenant('owner')), 'DELETE', config)
  t.equal((await resume(world.tenant('other'))).is, '200')
  t.equal((await app.configLoader.forPhoneNumber(world.number))?.getTenantId(), world.tenant('other'))
})

await t.test('delete-all and TRUNCATE delete all verified identities', async (t) => {
  const rows = async () => (await sql('select from verified_identities')).length
  t.not(await rows(), 0)
  const { body: { confirm } } = await call(admin, 'DELETE', '/api/v1/tenant/admin/configs/delete-all')
  t.equal((await call(admin, 'DELETE', `/api/v1/tenant/admin/configs/delete-all?confirm=${String(confirm)}`)).is, '200')
  await sql("delete from verified_identities where tenant_id like 'other %'")
  t.equal(await rows(), 0)
  await pasteAndVerify(createWorld(), 'owner')
  t.equal(await rows(), 1)
  await sql('truncate tenant_configs')
  t.equal(await rows(), 0)
})
