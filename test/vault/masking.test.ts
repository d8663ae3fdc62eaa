import t from '../run/tap.js'
import { isMasked, mask } from '../../src/vault/masking.js'

await t.test('a secret of at least 16 characters shows its last four, a shorter one none', async (t) => {
  for (const [secret, masked] of [
    ['', '****'],
    ['123456789abcdef', '****'],
    ['123456789abcdefg', '****defg'],
    ['x'.repeat(31) + 'y', '****xxxy'],
    ['x'.repeat(4000) + 'tail', '****tail'],
    ['👋'.repeat(15), '****'],
    ['👋'.repeat(16), '****👋👋👋👋'],
    ['a'.repeat(15) + '👋', '****aaa👋'],
    ['a'.repeat(31) + '👋', '****aaa👋'],
    ['👋'.repeat(7) + 'a', '****']
  ] as const) t.equal(mask(secret), masked, secret.slice(0, 40))
})

await t.test('a value that begins with the mask counts as masked', async (t) => {
  for (const value of ['****', '****defg', '*****']) t.ok(isMasked(value), value)
  for (const value of ['', '***', 'x****', ' ****']) t.notOk(isMasked(value), value)
})
