import t from '../../run/tap.js'
import { onboardingService } from '../onboarding-service.js'

t.setTimeout(300_000)

const LOGINS = 1000
const service = await onboardingService(t)
const { post, resume, issue, newTenant, newWaba, row } = service

/** A generator of the same numbers in each run, from 0 to 1 (mulberry32). */
function randomNumbers (seed: number): () => number {
  let state = seed
  return () => {
    state = state + 0x6D2B79F5 | 0
    let mixed = Math.imul(state ^ state >>> 15, 1 | state)
    mixed = mixed + Math.imul(mixed ^ mixed >>> 7, 61 | mixed) ^ mixed
    return ((mixed ^ mixed >>> 14) >>> 0) / 4294967296
  }
}

await t.test('1,000 logins of one tenant with random grants never change its number', async (t) => {
  const random = randomNumbers(11)
  const pick = <T>(items: readonly T[]): T | undefined => items[Math.floor(random() * items.length)]
  const home = newWaba(3)
  const accounts = [home, newWaba(1), newWaba(2), newWaba(0)]
  const phones = accounts.flatMap(({ phones }) => phones)
  const tenant = newTenant()
  let number = home.phones[0]?.id
  t.equal((await post(tenant, { code: issue(), waba_id: home.id, phone_number_id: number })).is, '201')

  const seen = new Map<string, number>()
  let moved = 0
  for (let i = 0; i < LOGINS; i++) {
    const granted = random() < 0.1 ? null : accounts.filter(() => random() < 0.5).map(({ id }) => id)
    const claimed = random() < 0.4 ? pick(accounts)?.id : undefined
    const wanted = random() < 0.3 ? pick(phones)?.id : undefined
    const { is } = await post(tenant, {
      code: issue({ waba_ids: granted }), waba_id: claimed, phone_number_id: wanted
    })
    seen.set(is, (seen.get(is) ?? 0) + 1)
    const stored = (await row(tenant))?.['phone_number_id']
    if (stored !== number) t.fail(`login ${i} changed the number: ${is}`)
    // Now and then somebody wants the change.
    if (is !== '409 META_NUMBER_CHANGED' || random() > 0.1) continue
    const next = pick(accounts.filter(({ id }) => claimed === undefined ? granted?.includes(id) : id === claimed)
      .flatMap(({ phones }) => phones))
    if (next === undefined) continue
    const resumed = await resume(tenant, { phone_number_id: next.id })
    t.equal(resumed.is, '200')
    if (next.id !== number) moved++
    number = next.id
    t.equal((await row(tenant))?.['phone_number_id'], number)
  }
  t.comment(Object.fromEntries(seen), `${moved} changes`)
  for (const is of ['200', '409 META_NUMBER_CHANGED', '403 META_PHONE_NOT_IN_WABA', '409 META_ACCOUNT_REQUIRED']) {
    t.ok((seen.get(is) ?? 0) > 5, is)
  }
  t.ok(moved > 5)
})
