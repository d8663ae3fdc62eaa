DROP TRIGGER "token_watch_insert" ON "tenant_configs";
--> statement-breakpoint
DROP TRIGGER "token_watch_update" ON "tenant_configs";
--> statement-breakpoint
DROP TRIGGER "tenant_configs_switched" ON "tenant_configs";
--> statement-breakpoint
DROP TRIGGER "tenant_configs_deleted" ON "tenant_configs";
--> statement-breakpoint
DROP TRIGGER "tenant_configs_truncated" ON "tenant_configs";
--> statement-breakpoint
DROP FUNCTION "token_watch_insert"();
--> statement-breakpoint
DROP FUNCTION "token_watch_update"();
--> statement-breakpoint
DROP FUNCTION "tenant_configs_switched"();
--> statement-breakpoint
DROP FUNCTION "tenant_configs_gone"();
--> statement-breakpoint
DROP TABLE "events_outbox";
--> statement-breakpoint
DROP TABLE "oauth_states";
--> statement-breakpoint
DROP TABLE "onboardings";
--> statement-breakpoint
DROP TABLE "token_watch";
--> statement-breakpoint
DROP TABLE "webhook_deliveries";
--> statement-breakpoint
DROP INDEX "tenant_configs_list_idx";
--> statement-breakpoint
CREATE INDEX "tenant_configs_list_idx" ON "tenant_configs" USING btree ("tenant_id" collate "C");
