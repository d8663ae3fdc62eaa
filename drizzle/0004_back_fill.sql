-- outside a transaction
-- No statement blocks reads or writes of a table. CONCURRENTLY waits for transactions that are open, and nobody waits for it.
CREATE INDEX CONCURRENTLY IF NOT EXISTS "oauth_states_tenant_idx" ON "oauth_states" USING btree ("tenant_id","expires_at");--> statement-breakpoint
CREATE INDEX CONCURRENTLY IF NOT EXISTS "onboardings_created_at_idx" ON "onboardings" USING btree ("created_at");--> statement-breakpoint
CREATE INDEX CONCURRENTLY IF NOT EXISTS "tenant_configs_phone_number_id_idx" ON "tenant_configs" USING btree ("phone_number_id");--> statement-breakpoint
-- in batches
-- The rows are locked: an id that changes meanwhile must not be stored as verified afterwards.
WITH page AS (
	SELECT * FROM "tenant_configs" WHERE "id" > coalesce($1::int, 0) ORDER BY "id" LIMIT 1000 FOR NO KEY UPDATE
), filled AS (
	INSERT INTO "verified_identities" ("tenant_id", "waba_id", "phone_number_id", "verified_at")
	SELECT "tenant_id", "waba_id", "phone_number_id", coalesce("last_verified_at", "onboarded_at", "updated_at") FROM page
	WHERE "waba_id" IS NOT NULL AND ("onboarding_completed" OR "last_verified_at" IS NOT NULL) ON CONFLICT DO NOTHING
)
SELECT max("id") AS "next", count(*)::int AS "rows" FROM page;--> statement-breakpoint
-- in batches
-- Stores when a number last got a callback of its own.
WITH page AS (
	SELECT "id", "phone_number_id", "steps" FROM "onboardings" WHERE "id" > coalesce($1::uuid, '00000000-0000-0000-0000-000000000000')
	ORDER BY "id" LIMIT 1000
), filled AS (
	INSERT INTO "phone_callbacks" ("phone_number_id", "set_at")
	SELECT "phone_number_id", max((step ->> 'at')::timestamptz) FROM page, jsonb_array_elements("steps") AS step
	WHERE "phone_number_id" IS NOT NULL AND step ->> 'name' = 'subscribe' AND step ->> 'status' = 'done' AND step -> 'evidence' ->> 'callback' = 'phone_number'
	GROUP BY "phone_number_id"
	ON CONFLICT ("phone_number_id") DO UPDATE SET "set_at" = greatest("phone_callbacks"."set_at", excluded."set_at")
)
SELECT (SELECT "id" FROM page ORDER BY "id" DESC LIMIT 1) AS "next", (SELECT count(*)::int FROM page) AS "rows";--> statement-breakpoint
-- in batches
-- Takes out the numbers whose callback was set for the whole account later.
WITH page AS (
	SELECT "id", "phone_number_id", "steps" FROM "onboardings" WHERE "id" > coalesce($1::uuid, '00000000-0000-0000-0000-000000000000')
	ORDER BY "id" LIMIT 1000
), emptied AS (
	DELETE FROM "phone_callbacks" USING page, jsonb_array_elements("steps") AS step
	WHERE "phone_callbacks"."phone_number_id" = page."phone_number_id" AND step ->> 'name' = 'subscribe' AND step ->> 'status' = 'done'
		AND step -> 'evidence' ->> 'callback' IS DISTINCT FROM 'phone_number' AND (step ->> 'at')::timestamptz > "phone_callbacks"."set_at"
)
SELECT (SELECT "id" FROM page ORDER BY "id" DESC LIMIT 1) AS "next", (SELECT count(*)::int FROM page) AS "rows";--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "tenant_configs_phone_number_id_key";
