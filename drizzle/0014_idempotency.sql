CREATE TABLE "idempotency_keys" (
	"tenant_id" varchar(100) NOT NULL,
	"key_hash" varchar(43) NOT NULL,
	"fingerprint" varchar(76) NOT NULL,
	"lease_owner" uuid NOT NULL,
	"leased_until" timestamp with time zone NOT NULL,
	"answer" jsonb,
	"expires_at" timestamp with time zone NOT NULL,
	CONSTRAINT "idempotency_keys_tenant_id_key_hash_pk" PRIMARY KEY("tenant_id","key_hash")
);
--> statement-breakpoint
CREATE INDEX "idempotency_keys_expires_at_idx" ON "idempotency_keys" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "idempotency_keys_tenant_idx" ON "idempotency_keys" USING btree ("tenant_id","expires_at");