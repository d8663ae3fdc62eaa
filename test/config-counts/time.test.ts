import t from '../run/tap.js'
import { countedDatabase } from './plain-counts.js'

/** Times whose day, hour or minute begins in another place, or whose month has a clock change. */
const nows = [
  '2026-11-23 12:34:56.789Z', '2026-11-23 12:34:00Z', '2026-11-23 12:00:00Z', '2026-11-23 00:00:00Z',
  '2026-11-23 23:59:59.999999Z', '2026-12-31 23:59:30Z', '2028-02-22 00:00:00.000001Z', '2026-03-07 07:30:00Z',
  '2026-10-30 05:30:00Z'
]

await t.test('a token counts as expired from its instant on, and as expiring until 7 and 30 days after', async (t) => {
  const { run, compare, fold } = await countedDatabase(t)
  await run(`insert into tenant_configs (tenant_id, access_token, token_expires_at)
    select row_number() over (), 'x', date_trunc(unit, base + away::interval) + shift::interval
    from unnest('{${nows.join(',')}}'::timestamptz[]) base,
      unnest('{-1 day,0,7 days,30 days,31 days}'::text[]) away,
      unnest('{microsecond,minute,hour,day}'::text[]) unit,
      unnest('{-1 microsecond,0,1 microsecond,1 minute,1 hour}'::text[]) shift`)
  for (const zone of ['UTC', 'Asia/Kolkata', 'America/New_York', 'Pacific/Chatham']) {
    await run(`set timezone = '${zone}'`)
    for (const now of nows) {
      for (const shift of ['-1 microsecond', '0', '1 microsecond']) {
        const time = `('${now}'::timestamptz + interval '${shift}')`
        const { stats, plain } = await compare(time)
        t.strictSame(stats, plain, `${time} in ${zone}`)
      }
    }
    await fold()
  }
})

await t.test('the counts follow the time without a write', async (t) => {
  const { run, compare } = await countedDatabase(t)
  const at = async (now: string) => (await compare(`'${now}'::timestamptz`)).stats
  await run(`insert into tenant_configs (tenant_id, access_token, token_expires_at)
    values ('a', 'x', '2026-11-23 12:00Z')`)
  t.match(await at('2026-10-24 11:59:59.999999Z'), { expired: 0, expiring_7d: 0, expiring_30d: 0 })
  t.match(await at('2026-10-24 12:00Z'), { expired: 0, expiring_7d: 0, expiring_30d: 1 })
  t.match(await at('2026-11-16 11:59:59.999999Z'), { expired: 0, expiring_7d: 0, expiring_30d: 1 })
  t.match(await at('2026-11-16 12:00Z'), { expired: 0, expiring_7d: 1, expiring_30d: 1 })
  t.match(await at('2026-11-23 11:59:59.999999Z'), { expired: 0, expiring_7d: 1, expiring_30d: 1 })
  t.match(await at('2026-11-23 12:00Z'), { expired: 1, expiring_7d: 0, expiring_30d: 0 })
  t.match(await at('2028-01-01Z'), { expired: 1, expiring_7d: 0, expiring_30d: 0 })
})
