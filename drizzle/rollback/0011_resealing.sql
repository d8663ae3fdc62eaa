CREATE OR REPLACE TRIGGER "tenant_configs_touch" BEFORE UPDATE ON "tenant_configs" FOR EACH ROW EXECUTE FUNCTION "tenant_configs_touch"();
--> statement-breakpoint
CREATE OR REPLACE TRIGGER "tenant_configs_updated" AFTER UPDATE ON "tenant_configs" REFERENCING OLD TABLE AS former NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION "tenant_configs_changed"();
--> statement-breakpoint
CREATE OR REPLACE TRIGGER "token_watch_update" AFTER UPDATE OF "access_token", "token_expires_at" ON "tenant_configs" FOR EACH ROW
	WHEN (OLD.access_token IS DISTINCT FROM NEW.access_token OR OLD.token_expires_at IS DISTINCT FROM NEW.token_expires_at) EXECUTE FUNCTION "token_watch_update"();
--> statement-breakpoint
CREATE OR REPLACE TRIGGER "onboardings_touch" BEFORE UPDATE ON "onboardings" FOR EACH ROW EXECUTE FUNCTION "tenant_configs_touch"();
--> statement-breakpoint
ALTER TABLE "tenant_configs" ENABLE ALWAYS TRIGGER "tenant_configs_touch", ENABLE ALWAYS TRIGGER "tenant_configs_updated",
	ENABLE ALWAYS TRIGGER "token_watch_update";
--> statement-breakpoint
ALTER TABLE "onboardings" ENABLE ALWAYS TRIGGER "onboardings_touch";
