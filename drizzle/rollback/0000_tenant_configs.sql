DROP TABLE "tenant_configs";
--> statement-breakpoint
DROP FUNCTION "tenant_configs_touch"();
--> statement-breakpoint
DROP TABLE "vault_keys";
