import t from '../run/tap.js'
import { tableWalls } from '../../src/database/wall/grants.js'
import { config, type Answer, type Who } from '../routes/client.js'
import { placesWithoutValues, plainRequestsOf, requestsOf, targetsOf, type Request, type Target } from './requests.js'
import { addOther, claimed, OTHER, UNSENT, world, type World } from './world.js'

/** Meta and load balancers use them, without a token. */
const PUBLIC = ['getLive', 'getReady', 'receiveAccountUpdate', 'verifyAccountUpdate']

// The same service twice; the other tenant exists in the first one alone. An answer that depends on it differs from
// that of the second one.
const [shared, alone] = [await world(t), await world(t)]
const values = await addOther(t, shared)
await alone.adapt(shared)
const targets = targetsOf((await shared.app.inject('/docs/json')).json())
const guarded = targets.filter(({ accepts }) => accepts.length > 0)
const isOfAdmin = ({ path }: Target) => path.includes('/admin/')
const before = await shared.rowsOfOther()

/** The text of an answer, without what differs between two services that do the same. */
const textOf = ({ is, body, headers }: Answer) => JSON.stringify([is, body, headers.etag, headers.location])
  .replaceAll(/(?<="next_cursor":")[^"]+/g, (cursor) => Buffer.from(cursor, 'base64url').toString())
  .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
  .replaceAll(/[\da-f]{8}-[\da-f-]{27}/g, 'UUID')
  .replaceAll(/"(\d+)-\d+\\"/g, '"$1-VERSION"')
  .replaceAll(/(state=|"state":")[\w-]{43}/g, '$1STATE')
  .replaceAll(/"fbtrace_id":"\w+"/g, '"fbtrace_id":"ID"')

async function send (world: World, { id }: Target, who: Who, request: Request): Promise<Answer> {
  const { app, call, sql } = world
  const { method, url, headers, body } = request
  if (id === 'createConfig') await call(world.who, 'DELETE', config)
  if ('idempotency-key' in headers) await sql('delete from idempotency_keys where tenant_id <> $1', [OTHER])
  await app.audit.settled()
  return await call(who, method, url, body, headers)
}

interface Comparison {
  /** Whose token or key the requests have. */
  whoOf: (world: World) => Who
  makeRequests?: typeof requestsOf
  /** Comes before each request, in both worlds. */
  prepare?: (world: World) => Promise<unknown>
}

/**
 * Sends the requests to an operation in both worlds, and asserts that the other tenant makes no difference.
 *
 * @returns the statuses and codes of the answers
 */
async function compare (
  target: Target, { whoOf, makeRequests = requestsOf, prepare = async () => {} }: Comparison
): Promise<string[]> {
  const [requests = [], requestsAlone = []] = [shared, alone].map((world) => makeRequests(target, values, world))
  const found: string[] = []
  for (const [index, request] of requests.entries()) {
    const sent = [[shared, request], [alone, requestsAlone[index] ?? request]] as const
    const [answer, expected] = await Promise.all(sent.map(async ([world, request]) => {
      await prepare(world)
      const answer = await send(world, target, whoOf(world), request)
      if (request.method !== 'GET' && answer.is.startsWith('2')) await world.restore()
      return answer
    }))
    if (answer === undefined || expected === undefined) throw new Error('a request was not sent')
    const text = textOf(answer)
    t.equal(text, textOf(expected), JSON.stringify(request))
    t.notOk(text.includes(UNSENT), JSON.stringify(request))
    found.push(answer.is)
  }
  t.strictSame(await shared.rowsOfOther(), before, target.id)
  return found
}

await t.test('each place of a request has values of the other tenant, and each table rows of it', async (t) => {
  t.ok(guarded.length > 25)
  for (const target of guarded) t.same(placesWithoutValues(target, values), [], target.id)
  t.strictSame(targets.filter((target) => !guarded.includes(target)).map(({ id }) => id).sort(), PUBLIC)
  for (const [table, { isOfTenant }] of Object.entries(tableWalls)) {
    if (isOfTenant) t.not(before[table], null, table)
  }
})

await t.test('no request with the token of a tenant learns of another one, or changes it', async (t) => {
  for (const target of guarded) {
    const statuses = await compare(target, { whoOf: ({ who }) => who })
    if (isOfAdmin(target)) t.ok(statuses.every((is) => is === '403 FORBIDDEN'), target.id)
  }
})

await t.test('no request with a service key for one tenant learns of another one, or changes it', async (t) => {
  for (const target of guarded) {
    const takesKeys = target.accepts.includes('serviceKey')
    const makeRequests = takesKeys ? requestsOf : plainRequestsOf
    const statuses = await compare(target, { whoOf: ({ key }) => key, makeRequests })
    if (!takesKeys) t.match(statuses, [/^40[13] /], target.id)
  }
})

await t.test('a tenant that claims the ids of another one learns nothing of it, and changes nothing', async (t) => {
  const whoOf = ({ who }: World) => who
  const prepare = async ({ call, who }: World) => {
    const { is } = await call(who, 'PUT', config, claimed)
    if (is !== '200') await call(who, 'POST', config, claimed)
  }
  for (const target of guarded.filter((target) => !isOfAdmin(target))) {
    await compare(target, { whoOf, makeRequests: plainRequestsOf, prepare })
  }

  // The one difference, which the contract names: our app stays on an account that serves a verified number of another.
  const answers = [shared, alone].map(async (world) => {
    await prepare(world)
    return (await world.call(world.who, 'DELETE', `${config}?unsubscribe=true`)).is
  })
  t.strictSame(await Promise.all(answers), ['204', '502 META_UNSUBSCRIBE_REFUSED'])
  t.strictSame(await shared.rowsOfOther(), before)
})

await t.test('an id that differs only in case, form or blanks is another tenant', async (t) => {
  for (const near of [
    'The-other-tenant', `${OTHER} `, ` ${OTHER}`, `${OTHER}\u200b`, 'the-other\u2010tenant', `${OTHER}%`,
    'the_other_tenant', `${OTHER}' or '1'='1`
  ]) {
    t.equal((await shared.call(shared.as(near), 'GET', config)).is, '404 CONFIG_NOT_FOUND', near)
  }
})
