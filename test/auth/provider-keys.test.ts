import type { Test } from 'tap'
import t from '../run/tap.js'
import { createProviderKeys } from '../../src/auth/provider-keys.js'
import { formatChallenge } from '../../src/auth/refusal.js'
import { sharedController } from '../../src/waiting/wait-for.js'
import { until } from '../without-database.js'
import { breakOff, identityProvider, keySet, signingKey, status, type Answer } from './provider.js'

const MINUTE = 60_000
const [first, second] = [await signingKey('ES256', { kid: 'first' }), await signingKey('ES256', { kid: 'second' })]

/** The keys of a provider, on a clock that the test advances. */
async function subject (t: Test, answer: Answer = keySet(first)) {
  const provider = await identityProvider(t, answer)
  const closing = sharedController()
  const warnings: string[] = []
  let now = 1_000_000
  const keys = createProviderKeys({
    url: provider.url,
    clockTolerance: 0,
    fetch,
    closing: closing.signal,
    log: { warn: (_details: object, message?: string) => { warnings.push(String(message)) } },
    now: () => now
  })
  /** Finds the key of a `kid`: `found`, or why not. */
  const find = async (kid = 'first') => await keys.find('ES256', kid).then(
    () => 'found',
    (err) => err.code === 'UNAUTHENTICATED' ? formatChallenge(err).replace(/^.*description=/, '') : err.code
  )
  return { ...provider, keys, find, closing, warnings, advance: (ms: number) => { now += ms } }
}

const UNKNOWN = '"No key that is accepted signed the token"'

await t.test('keys are fetched at the first token, once, and again after 10 minutes', async (t) => {
  const { find, fetches, advance } = await subject(t)
  t.equal(fetches(), 0)
  t.same(await Promise.all(Array.from({ length: 100 }, async () => await find())), Array(100).fill('found'))
  t.equal(fetches(), 1, '100 requests cause one fetch')
  advance(10 * MINUTE - 1)
  t.equal(await find(), 'found')
  t.equal(fetches(), 1)
  advance(1)
  t.same(await Promise.all(Array.from({ length: 100 }, async () => await find())), Array(100).fill('found'))
  t.equal(fetches(), 2)
})

await t.test('a new key is found at once; a key that is gone counts for 10 minutes at most', async (t) => {
  const { find, fetches, advance, answerWith } = await subject(t)
  t.equal(await find(), 'found')
  answerWith(keySet(second))
  t.equal(await find('second'), 'found', 'an unknown kid causes a fetch')
  t.equal(await find('first'), UNKNOWN, 'its answer replaces all keys')
  t.equal(fetches(), 3)
  answerWith(keySet(first))
  advance(10 * MINUTE)
  t.equal(await find('second'), UNKNOWN)
  t.equal(await find('first'), 'found')
  t.equal(fetches(), 4)
})

await t.test('unknown kids cause one fetch in 30 s', async (t) => {
  const { find, fetches, advance } = await subject(t)
  t.equal(await find(), 'found')
  for (let round = 1; round <= 3; round++) {
    const answers = await Promise.all(Array.from({ length: 100 }, async (_, i) => await find(`made-up-${round}-${i}`)))
    t.same(answers, Array(100).fill(UNKNOWN))
    for (let i = 0; i < 10; i++) t.equal(await find(`made-up-again-${i}`), UNKNOWN)
    t.equal(fetches(), 1 + round)
    t.equal(await find(), 'found')
    advance(29_999)
    t.equal(await find('made-up'), UNKNOWN)
    t.equal(fetches(), 1 + round)
    advance(1)
  }
})

await t.test('without keys no token can be checked: one fetch in 30 s', async (t) => {
  const { find, fetches, advance, answerWith, warnings } = await subject(t, status(500))
  const answers = await Promise.all(Array.from({ length: 50 }, async () => await find()))
  t.same(answers, Array(50).fill('IDENTITY_UNAVAILABLE'))
  t.equal(fetches(), 1)
  answerWith(keySet(first))
  advance(29_999)
  t.equal(await find(), 'IDENTITY_UNAVAILABLE')
  t.equal(fetches(), 1)
  advance(1)
  t.equal(await find(), 'found')
  t.equal(fetches(), 2)
  t.same(warnings, ['the keys of the identity provider at JWT_JWKS_URL cannot be read'])
})

await t.test('the last keys serve while the provider is away', async (t) => {
  const { find, fetches, advance, answerWith, goAway, warnings } = await subject(t)
  t.equal(await find(), 'found')
  const comeBack = await goAway()
  t.equal(await find('second'), 'IDENTITY_UNAVAILABLE', 'the key may be new: that is not the fault of the token')
  for (let i = 1; i <= 48; i++) {
    advance(30 * MINUTE)
    t.equal(await find(), 'found', 'for a day')
    await until(() => warnings.length === 1 + i)
  }
  t.equal(fetches(), 1, 'no connection came about')
  await comeBack()
  answerWith(keySet(second))
  advance(30_000)
  t.equal(await find('second'), 'found')
  t.equal(await find('first'), UNKNOWN)
})

await t.test('while a provider hangs, only the first token waits for it', async (t) => {
  const { find, fetches, advance, answerWith } = await subject(t)
  t.equal(await find(), 'found')
  answerWith(breakOff)
  advance(10 * MINUTE)
  t.equal(await find(), 'found')
  t.equal(fetches(), 2)
  answerWith(() => {})
  advance(30_000)
  const began = performance.now()
  t.equal(await find(), 'found')
  t.ok(performance.now() - began < 2500)
  await until(() => fetches() === 3)
})

await t.test('a set that cannot be read leaves the last keys; an empty set does not', async (t) => {
  const { find, advance, answerWith } = await subject(t)
  t.equal(await find(), 'found')
  answerWith((_request, reply) => { reply.end('{"keys":{}}') })
  advance(10 * MINUTE)
  t.equal(await find(), 'found')
  answerWith(keySet())
  advance(30_000)
  t.equal(await find('second'), 'IDENTITY_UNAVAILABLE')
  t.equal(await find('first'), 'IDENTITY_UNAVAILABLE')
})

await t.test('a wait for the provider ends when the service closes', async (t) => {
  const { keys, find, fetches, closing } = await subject(t, () => {})
  const waiting = keys.find('ES256', 'first')
  await until(() => fetches() === 1)
  closing.abort(new Error('closing'))
  await t.rejects(waiting, { message: 'closing' })
  t.equal(await find(), 'IDENTITY_UNAVAILABLE')
})
