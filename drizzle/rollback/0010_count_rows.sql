-- outside a transaction
DROP INDEX CONCURRENTLY IF EXISTS "token_watch_flags_idx";
--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "tenant_configs_flags_idx";
