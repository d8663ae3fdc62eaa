DROP TRIGGER "tenant_configs_inserted" ON "tenant_configs";
--> statement-breakpoint
DROP TRIGGER "tenant_configs_updated" ON "tenant_configs";
--> statement-breakpoint
DROP TRIGGER "tenant_configs_removed" ON "tenant_configs";
--> statement-breakpoint
DROP TRIGGER "tenant_configs_emptied" ON "tenant_configs";
--> statement-breakpoint
DROP FUNCTION "tenant_configs_changed"();
