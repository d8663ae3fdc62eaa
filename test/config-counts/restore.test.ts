import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import t from '../run/tap.js'
import { withoutPgDump } from '../fixtures/postgres/pg-dump.js'
import { buildTestApp, createDatabase } from '../helper.js'
import { countedDatabase } from './plain-counts.js'

const { url: source, run, fold } = await countedDatabase(t)
const skip = await withoutPgDump(source)

await run(`insert into tenant_configs (tenant_id, access_token, token_expires_at, is_active)
  select i, 'x', now() + i * interval '1 day', i % 3 > 0 from generate_series(1, 30) i`)
await fold()
// A dump has folded counts and appended ones.
await run("update tenant_configs set phone_number_id = id where id % 2 = 0; update token_watch set status = 'ok'")
await run(`insert into phone_numbers (tenant_id, phone_number_id, number_status)
  select tenant_id, phone_number_id, 'ok' from tenant_configs where phone_number_id is not null`)

const dump = join(t.testdir({}), 'all.dump')
if (skip === false) spawnSync('pg_dump', ['--format=custom', `--file=${dump}`, source])

/** Returns what pg_restore printed. */
const restore = (url: string, ...options: string[]) =>
  spawnSync('pg_restore', [...options, `--dbname=${url}`, dump], { encoding: 'utf8' }).stderr

await t.test('a full restore has the counts of the dump', { skip }, async (t) => {
  for (const options of [[], ['--jobs=2'], ['--clean'], ['--clean', '--single-transaction']]) {
    const database = await createDatabase(t, { empty: options[0] !== '--clean' })
    const { url, run, assertExact } = await countedDatabase(t, database)
    t.equal(restore(url, ...options), '', options.join(' '))
    t.match(await assertExact('restored'), { total: 30, token_status: { ok: 30 } })
    await run("update tenant_configs set is_active = false where tenant_id = '1'")
    t.match(await assertExact('a write afterwards'), { total: 30, inactive: 11 })
    t.match(await run('select config_counts_recount() as wrong'), [{ wrong: 0 }])
  }
})

await t.test('a data-only restore counts each row once, also that of some tables', { skip }, async (t) => {
  for (const tables of [
    ['--table=tenant_configs', '--table=vault_keys'],
    ['--table=config_counts', '--table=config_count_changes', '--table=tenant_configs', '--table=phone_numbers'],
    // Without `--exit-on-error`: the triggers have inserted the watches when those of the dump come.
    ['--schema=public']
  ]) {
    const { url, assertExact } = await countedDatabase(t)
    restore(url, '--data-only', ...tables)
    t.match(await assertExact(`restored ${tables.join(' ')}`), { total: 30 })
    await buildTestApp(t, { DATABASE_URL: url })
    t.match(await assertExact('after a start'), { total: 30 })
  }
})

await t.test('after one with the triggers off the next start corrects the counts', { skip }, async (t) => {
  for (const [total, ...tables] of [
    ['30', '--table=tenant_configs', '--table=vault_keys'], ['0', '--table=config_counts'], ['30', '--schema=public']
  ]) {
    const { url, assertExact, compare } = await countedDatabase(t)
    t.equal(restore(url, '--data-only', '--disable-triggers', ...tables), '', tables.join(' '))
    const { stats, plain } = await compare()
    // All tables together have the right counts.
    t.equal(stats['total'] === plain['total'], tables.length === 1 && total === '30', `at once: ${tables.join(' ')}`)
    await buildTestApp(t, { DATABASE_URL: url })
    t.match(await assertExact('after a start'), { total: Number(total) })
  }
})
