import t from '../../run/tap.js'
import { query } from '../../helper.js'
import { ANY, change, createChangeListener, insert, rows, sorted } from './change-listener.js'

await t.test('up to 32 changed rows are named; more cause one notification without names', async (t) => {
  const { payloadsOf, writer } = await createChangeListener(t)
  const named = sorted(Array.from({ length: 32 }, (_, i) => change(`t${i + 1}`, `p${i + 1}`, `w${(i + 1) % 3}`)))
  t.same(await payloadsOf(`${insert} ${rows(1, 32)}`), [named])
  t.same(await payloadsOf('update tenant_configs set user_id = tenant_id'), [named])
  t.equal(
    (await payloadsOf('update tenant_configs set waba_id = null')).flat().length,
    64,
    'each row is named with its old and new ids'
  )
  t.same(await payloadsOf(`${insert} ${rows(33, 65)}`), [ANY])
  t.same(await payloadsOf('update tenant_configs set is_active = false'), [ANY])
  t.same(await payloadsOf(`${insert} ${rows(66, 20_000)}`), [ANY])
  t.same(await payloadsOf("delete from tenant_configs where tenant_id <> 't1'"), [ANY])
  t.same(await payloadsOf('delete from tenant_configs'), [[change('t1', 'p1', null)]])

  const copy = async (text: string) => await writer.query(
    `copy tenant_configs (tenant_id, phone_number_id) from program '${text}'`
  )
  t.same(
    await payloadsOf(async () => await copy('printf "c1\\\\tp1\\nc2\\\\tp2\\n"')),
    [[change('c1', 'p1', null), change('c2', 'p2', null)]]
  )
  t.same(await payloadsOf(async () => await copy('seq 1000 1999 | sed "s/\\(.*\\)/x\\1\\\\ty\\1/"')), [ANY])
})

await t.test('ids with any characters arrive unchanged', async (t) => {
  const { payloadsOf } = await createChangeListener(t)
  const byOne = async (ids: unknown[]) => await payloadsOf(`${insert} values ($1, $2, $3)`, ids)
  for (const ids of [
    ['"', '\\', '\\"'], ["'; drop table tenant_configs --", '$$', '%s'], ['[', ']]', ',"'], [' ', '', 'null'],
    ['\u0001\u001f\u007f\u0080', '\n\r\t\b\f', '\u2028\u2029\u202e'], ['ä', 'é', 'e\u0301'], ['true', '1e9', '{}'],
    ['\u{10FFFF}', '\uFEFF', '\uFFFD']
  ]) t.same(await byOne(ids), [[ids]])

  const longest = (filling: string) => [filling.repeat(100), filling.repeat(255), filling.repeat(255)]
  for (const filling of ['💬', '"', '\u0001']) {
    const ids = longest(filling)
    t.same(await byOne(ids), [[ids]], 'ids of full length')
    t.same(
      await payloadsOf('update tenant_configs set waba_id = null where tenant_id = $1', [ids[0]]),
      [sorted([ids, [ids[0], ids[1], null]])]
    )
    await payloadsOf('delete from tenant_configs where tenant_id = $1', [ids[0]])
  }
})

await t.test('a payload too long for PostgreSQL is sent empty, and the write succeeds', async (t) => {
  const { payloadsOf, url } = await createChangeListener(t)
  const wide = (n: number) => change(n + '💬'.repeat(99), n + '💬'.repeat(254), '💬'.repeat(255))
  const bytes = (all: unknown[][]) => Buffer.byteLength(
    `[${all.map((ids) => `[${ids.map((id) => JSON.stringify(id)).join(', ')}]`).join(', ')}]`
  )
  const values = (all: unknown[][]) => all.map((_, i) => `($${3 * i + 1}, $${3 * i + 2}, $${3 * i + 3})`).join()
  const last = (length: number) => [wide(1), wide(2), wide(3), change('t', 'ä'.repeat(255), 'x'.repeat(length))]
  const room = 7999 - bytes(last(0))
  t.ok(room > 0 && room < 255, String(room))
  const fits = last(room)
  t.equal(bytes(fits), 7999)
  t.same(await payloadsOf(`${insert} values ${values(fits)}`, fits.flat()), [sorted(fits)])
  await payloadsOf('delete from tenant_configs')
  const tooLong = last(room + 1)
  t.equal(bytes(tooLong), 8000)
  t.same(await payloadsOf(`${insert} values ${values(tooLong)}`, tooLong.flat()), [ANY])
  t.same(await payloadsOf("update tenant_configs set phone_number_id = null, waba_id = ''"), [ANY])
  t.same(
    await payloadsOf('delete from tenant_configs where phone_number_id is null'),
    [sorted(tooLong.map(([id]) => change(id, null, '')))]
  )
  t.same(await query(url, 'select tenant_id from tenant_configs'), [])
})
