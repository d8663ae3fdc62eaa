-- outside a transaction
DROP INDEX CONCURRENTLY IF EXISTS "token_watch_deadline_idx";
--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "onboardings_due_idx";
--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "events_outbox_at_idx";
