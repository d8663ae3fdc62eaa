-- outside a transaction
-- No statement blocks reads or writes of a table, as in 0004.
SELECT "config_counts_recount"();--> statement-breakpoint
-- in batches
-- The rows are locked: flags that change meanwhile must not be overwritten afterwards.
WITH page AS (
	SELECT * FROM "tenant_configs" WHERE "id" > coalesce($1::int, 0) ORDER BY "id" LIMIT 1000 FOR NO KEY UPDATE
), filled AS (
	UPDATE "token_watch" SET "tenant_is_active" = page."is_active", "tenant_is_onboarded" = page."onboarding_completed" FROM page
	WHERE "token_watch"."tenant_id" = page."tenant_id"
		AND ("tenant_is_active", "tenant_is_onboarded") IS DISTINCT FROM (page."is_active", page."onboarding_completed")
)
SELECT max("id") AS "next", count(*)::int AS "rows" FROM page;--> statement-breakpoint
CREATE INDEX CONCURRENTLY IF NOT EXISTS "tenant_configs_flags_idx" ON "tenant_configs" USING btree ("is_active","onboarding_completed","tenant_id" collate "C");--> statement-breakpoint
CREATE INDEX CONCURRENTLY IF NOT EXISTS "token_watch_flags_idx" ON "token_watch" USING btree ("status","tenant_is_active","tenant_is_onboarded","tenant_id" collate "C");
