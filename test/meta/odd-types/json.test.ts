import t from '../../run/tap.js'
import { Node, Page, read } from '../../../src/meta/replies.js'
import { app, calls, meta, raw, thrownBy, token } from '../wire.js'

/** The ids of the numbers that this text lists. */
async function idsIn (test: typeof t, text: string) {
  const { graph } = await meta(test, raw(200, text))
  return (await graph.listPhoneNumbers(app, token, '1')).map(({ id }) => id)
}

await t.test('an id as a JSON number keeps all its digits', async t => {
  for (const id of [
    '1', '106540352242922', '9007199254740991', '9007199254740992', '9007199254740993', '12345678901234567',
    '99999999999999999999999999999999'
  ]) t.strictSame(await idsIn(t, `{"data":[{"id":${id}}]}`), [id])
  for (const none of [
    '0', '0.5', '-9007199254740993', '1e17', '12345678901234567.5', '123456789012345678901234567890123', '1e999'
  ]) {
    const { graph } = await meta(t, raw(200, `{"data":[{"id":${none}}]}`))
    t.match(await thrownBy(calls.phone_numbers(graph)), { code: 'META_UNEXPECTED_REPLY' }, none)
  }
})

await t.test('the last of two members with one name counts, and no member is the prototype', async t => {
  t.strictSame(await idsIn(t, '{"data":[],"data":[{"id":"1","id":"2"}]}'), ['2'])
  t.strictSame(await idsIn(t, '{"__proto__":{"data":[]},"data":[{"__proto__":{"status":"X"},"id":"1"}]}'), ['1'])
  const { graph } = await meta(t, raw(200, '{"__proto__":{"data":[]}}'))
  t.match(await thrownBy(calls.phone_numbers(graph)), { code: 'META_UNEXPECTED_REPLY' })
  t.equal(Object('x').data, undefined)
})

await t.test('JSON nested too deeply cannot be read, and is an error of ours', async t => {
  for (const text of [
    '['.repeat(100_000), '['.repeat(100_000) + ']'.repeat(100_000), '{"data":'.repeat(100_000),
    `{"error":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
    `{"a":${'['.repeat(1000)}${']'.repeat(1000)},"a":${'['.repeat(1000)}${']'.repeat(1000)}}`
  ]) {
    const { graph } = await meta(t, raw(400, text))
    t.match(await thrownBy(calls.phone_numbers(graph)), { code: 'META_UNEXPECTED_REPLY' })
    t.match(await thrownBy(calls.access_token(graph)), { code: 'META_EXCHANGE_UNKNOWN' })
  }
  for (let depth = 500; depth < 8000; depth += 500) {
    const deep = '['.repeat(depth) + ']'.repeat(depth)
    const { graph } = await meta(t, raw(200, `{"data":[],"paging":{"cursors":{"after":${deep}}}}`))
    t.match(await thrownBy(calls.phone_numbers(graph)), { code: 'META_UNEXPECTED_REPLY' }, String(depth))
  }
  let deepest: unknown[] = []
  for (let depth = 0; depth < 100_000; depth++) deepest = [deepest]
  t.equal(read(Page(Node), { data: [], paging: { future: deepest } }), undefined)
  t.strictSame(read(Page(Node), { data: [], paging: null, future: deepest }), { data: [], paging: null })
  // Nothing that may nest is read: a depth that the parser takes does not matter.
  const deep = '['.repeat(1000) + ']'.repeat(1000)
  t.strictSame(await idsIn(t, `{"data":[{"id":"1","status":${deep},"more":${deep}}],"more":${deep}}`), ['1'])
})
