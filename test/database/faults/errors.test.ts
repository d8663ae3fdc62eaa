import { sql } from 'drizzle-orm'
import t from '../../run/tap.js'
import { buildTestApp, query } from '../../helper.js'
import { assertFailed, canary, post } from './canary-requests.js'

await t.test('an error of PostgreSQL shows no value', async (t) => {
  const service = await buildTestApp(t)
  const { app, databaseUrl, log } = service
  t.equal((await post(service, 'acme')).statusCode, 201)
  assertFailed(t, service, await post(service, 'acme'), 'CONFIG_EXISTS')

  // Unexpected faults: PostgreSQL quotes the row, and a trigger can quote anything.
  await query(databaseUrl, "alter table tenant_configs add constraint never check (waba_id <> 'refused')")
  assertFailed(t, service, await post(service, 'third', { waba_id: 'refused' }), 'INTERNAL')
  t.match(log(), '"constraint":"never"', 'the log names the constraint')
  await query(databaseUrl, `
    create function quote_it() returns trigger language plpgsql as $$ begin
      raise exception '${canary} %', new;
    end $$;
    create trigger quote_it before insert on tenant_configs for each row execute function quote_it()`)
  assertFailed(t, service, await post(service, 'fourth', { waba_id: canary }), 'INTERNAL')
  t.match(log(), '"code":"P0001"')
  const direct = await app.database.run(sql`select ${canary}::int`).catch((err: unknown) => err)
  t.match(direct, { code: 'VALIDATION_FAILED' })
  t.notMatch(String(direct), canary)
})

await t.test('each SQLSTATE maps to its error', async (t) => {
  const { app: { database } } = await buildTestApp(t)
  const raise = async (code: string, more = '') => await database.run(
    sql.raw(`do $$ begin raise exception '${canary}' using errcode = '${code}'${more}; end $$`)
  )
  const unavailable = [
    '08006', '53000', '53100', '53200', '53300', '57014', '57P01', '57P03', '28000', '28P01', '3D000', '40001', '40P01',
    '25006', '55P03'
  ]
  for (const code of unavailable) await t.rejects(raise(code), { code: 'DATABASE_UNAVAILABLE', cause: { code } }, code)
  for (const code of [
    '22001', '22003', '22021', '22P02', '22P05'
  ]) await t.rejects(raise(code), { code: 'VALIDATION_FAILED', cause: undefined }, code)
  await t.rejects(
    raise('23505', ", constraint = 'verified_identities_phone_number_id_key'"),
    { code: 'PHONE_NUMBER_TAKEN' }
  )
  for (const code of [
    '23502', '23505', '23514', '42P01', '42501', 'P0001', 'XX000'
  ]) await t.rejects(raise(code), { code }, `${code} is not mapped`)
  const unrelated = new TypeError('not from the database')
  await t.rejects(database.transaction(async () => { throw unrelated }), unrelated)
})
