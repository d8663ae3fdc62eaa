import type { Test } from 'tap'
import type { StepName } from '../../../src/schemas/statuses.js'
import { connect, query } from '../../helper.js'

/**
 * Blocks chosen writes of onboardings: the one that starts or finishes a step of a tenant. PostgreSQL aborts a write
 * that waits longer than the statement timeout.
 */
export async function blockedWrites (t: Test, url: string) {
  const lock = await connect(t, url)
  await query(url, 'create table blocked_writes (tenant_id text primary key, step text, status text)')
  await query(url, `create function block_write() returns trigger language plpgsql security definer as $$ begin
    if exists (
      select from blocked_writes b, jsonb_array_elements(new.steps) now
      where b.tenant_id = new.tenant_id and now ->> 'name' = b.step
        and now ->> 'status' = b.status and now ->> 'attempts' <> '0'
    ) then perform pg_advisory_xact_lock(1); end if;
    return new;
  end $$`)
  await query(
    url,
    'create trigger block_write before update on onboardings for each row execute function block_write()'
  )
  await lock.query('select pg_advisory_lock(1)')
  return {
    /** Blocks the write that records this state of a step. */
    blockAt: async (tenant: string, step: StepName, state: 'started' | 'done') => {
      const status = state === 'started' ? 'pending' : 'done'
      await query(url, 'insert into blocked_writes values ($1, $2, $3)', [tenant, step, status])
    },
    /** The number of blocked writes. */
    countBlocked: async () => (await query(
      url,
      "select from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"
    )).length,
    /** Lets later writes pass. */
    unblock: async () => { await query(url, 'truncate blocked_writes') }
  }
}
