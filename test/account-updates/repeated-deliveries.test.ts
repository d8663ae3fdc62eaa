import pLimit from 'p-limit'
import t from '../run/tap.js'
import { connect, makeUnreachable, until, untilWaiting } from '../helper.js'
import { config } from '../routes/client.js'
import { accountUpdate, webhookService } from './deliveries.js'

const {
  app, as, call, sql, log, databaseUrl, post, deliver, tenants, isActive, assertNoWrites
} = await webhookService(t)

await t.test('a repeated delivery changes nothing; 50 concurrent posts of one count once', async (t) => {
  const [waba = ''] = await tenants(1)
  const text = JSON.stringify(accountUpdate('PARTNER_REMOVED', { waba }))
  const changed: string[] = []
  t.teardown(app.events.onEvent(({ type, tenant_id }) => { changed.push(`${tenant_id} ${type}`) }))
  // The service reads at most 8 deliveries at once.
  const limit = pLimit(8)
  const answers = await Promise.all(Array.from({ length: 50 }, async () => await limit(async () => await post(text))))
  t.ok(answers.every(({ is }) => is === '200'))
  t.same(changed, [`${waba} token.revoked`, `${waba} account.lost`])
  t.equal(log().split(`"tenant_id":"${waba}","waba_id"`).length, 2, 'one log line')
  await call(as(waba), 'POST', `${config}/activate`)
  await assertNoWrites(t, async () => { t.equal(await deliver(text), '200') })
  t.equal(await isActive(waba), true)
  t.equal(await deliver(`${text}\n`), '200')
  t.equal(await isActive(waba), false, 'other bytes are another delivery')
})

await t.test('two concurrent deliveries of the same accounts in opposite order do not deadlock', async (t) => {
  const ids = await tenants(6)
  const body = (ids: string[]) => JSON.stringify({
    object: 'whatsapp_business_account',
    entry: ids.flatMap((waba) => accountUpdate('PARTNER_REMOVED', { waba }).entry)
  })
  const other = await connect(t, databaseUrl)
  await other.query('begin; select from tenant_configs for update')
  const answers = [body(ids), body(ids.toReversed())].map(deliver)
  await untilWaiting(databaseUrl, 2)
  await other.query('rollback')
  t.strictSame(await Promise.all(answers), ['200', '200'])
})

await t.test('a delivery during a database outage is a 503, and its retry is processed', async (t) => {
  const [waba = ''] = await tenants(1)
  const text = JSON.stringify(accountUpdate('PARTNER_REMOVED', { waba }))
  const restore = await makeUnreachable(databaseUrl)
  t.equal(await deliver(text), '503 DATABASE_UNAVAILABLE')
  t.equal(await deliver(accountUpdate('PARTNER_ADDED', { waba })), '200', 'an event that needs no database')
  await restore()
  await until(async () => await deliver(text) === '200')
  t.equal(await isActive(waba), false)

  // The last statement fails, which rolls back all statements before it.
  const [late = ''] = await tenants(1)
  const again = JSON.stringify(accountUpdate('PARTNER_REMOVED', { waba: late }))
  await sql(
    `create function abort_update() returns trigger language plpgsql as $$ begin raise sqlstate '57014'; end $$;
    create trigger abort_update before update on token_watch for each row execute function abort_update()`
  )
  await assertNoWrites(t, async () => { t.equal(await deliver(again), '503 DATABASE_UNAVAILABLE') })
  await sql('drop function abort_update cascade')
  t.equal(await deliver(again), '200')
  t.equal(await isActive(late), false)
})
