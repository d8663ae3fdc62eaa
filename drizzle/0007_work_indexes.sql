-- outside a transaction
-- No statement blocks reads or writes of a table, as in 0004.
CREATE INDEX CONCURRENTLY IF NOT EXISTS "events_outbox_at_idx" ON "events_outbox" USING btree ("at","id");--> statement-breakpoint
CREATE INDEX CONCURRENTLY IF NOT EXISTS "onboardings_due_idx" ON "onboardings" USING btree (coalesce("retry_at", "held_until")) WHERE "onboardings"."status" = 'in_progress';--> statement-breakpoint
CREATE INDEX CONCURRENTLY IF NOT EXISTS "token_watch_deadline_idx" ON "token_watch" USING btree ("next_check_at") WHERE "token_watch"."is_deadline";
