-- outside a transaction
-- The unique index allows one tenant a number: the verified one keeps it, else the oldest.
WITH ranked AS (
	SELECT config."id", row_number() OVER (PARTITION BY config."phone_number_id" ORDER BY verified."tenant_id" IS NULL, config."id") AS "rank"
	FROM "tenant_configs" AS config
	LEFT JOIN "verified_identities" AS verified ON verified."tenant_id" = config."tenant_id" AND verified."phone_number_id" = config."phone_number_id"
	WHERE config."phone_number_id" IS NOT NULL
)
UPDATE "tenant_configs" SET "phone_number_id" = NULL FROM ranked WHERE ranked."id" = "tenant_configs"."id" AND ranked."rank" > 1;
--> statement-breakpoint
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS "tenant_configs_phone_number_id_key" ON "tenant_configs" USING btree ("phone_number_id") WHERE "tenant_configs"."phone_number_id" is not null;
--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "tenant_configs_phone_number_id_idx";
--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "onboardings_created_at_idx";
--> statement-breakpoint
DROP INDEX CONCURRENTLY IF EXISTS "oauth_states_tenant_idx";
