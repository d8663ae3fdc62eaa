import t from '../../run/tap.js'
import { createSieve } from '../../../src/config-loader/eviction/sieve.js'

/** A sieve of these keys, oldest first. */
function sieveOf (max: number, keys: string) {
  const sieve = createSieve<{ isVisited: boolean, value: string }>(max)
  const add = (key: string) => { sieve.set(key, { isVisited: false, value: key }) }
  for (const key of keys) add(key)
  const kept = () => [...'abcdefghijkl'].filter((key) => sieve.peek(key) !== undefined).join('')
  return { sieve, add, kept }
}

await t.test('an unread entry is evicted, the oldest first, whatever is peeked', async (t) => {
  const { sieve, add, kept } = sieveOf(3, 'abc')
  t.equal(sieve.get('b')?.value, 'b')
  t.equal(sieve.get('x'), undefined)
  t.equal(kept(), 'abc')
  add('d')
  t.equal(kept(), 'bcd')
  add('e')
  t.equal(kept(), 'bde', 'b was read')
  add('f')
  t.equal(kept(), 'bef', 'the hand goes on after b')
})

await t.test('the hand returns to the oldest entry, and one lap clears all marks', async (t) => {
  const { sieve, add, kept } = sieveOf(3, 'abc')
  for (const key of 'abc') sieve.get(key)
  add('d')
  t.equal(kept(), 'bcd', 'all were read: the oldest goes')
  for (const key of 'cd') sieve.get(key)
  add('e')
  t.equal(kept(), 'cde')
})

await t.test('a replaced entry evicts none', async (t) => {
  const { sieve, kept } = sieveOf(2, 'ab')
  sieve.set('a', { isVisited: false, value: 'other' })
  t.equal(kept(), 'ab')
  t.equal(sieve.get('a')?.value, 'other')
})

await t.test('deleted entries leave room, also while the hand is among them', async (t) => {
  const { sieve, add, kept } = sieveOf(4, 'abcd')
  for (const key of 'ab') sieve.get(key)
  add('e')
  t.equal(kept(), 'abde', 'the hand is behind c')
  sieve.delete('d')
  sieve.delete('x')
  t.equal(sieve.size, 3)
  add('f')
  t.equal(kept(), 'abef')
  add('g')
  t.equal(kept(), 'abfg', 'the hand went on from d')
  sieve.clear()
  t.equal(sieve.size, 0)
  for (const key of 'abcde') add(key)
  t.equal(kept(), 'bcde')
})

await t.test('the size never exceeds the maximum, with one entry or many', async (t) => {
  for (const max of [1, 7]) {
    const { sieve, add } = sieveOf(max, '')
    for (let step = 0; step < 5000; step++) {
      const key = String(Math.floor(Math.random() * 20))
      if (step % 5 === 0) sieve.delete(key)
      else if (sieve.get(key) === undefined) add(key)
      if (sieve.size > max) t.fail(`${sieve.size} entries of ${max}`)
    }
  }
})
