-- Locks verified_identities and token_watch in SHARE ROW EXCLUSIVE mode: reads go on, writes wait until the commit, some milliseconds
-- later. The back-fill came before, so that it made no loader invalidate its cache.
CREATE FUNCTION "token_watch_changed"() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	PERFORM pg_notify('tenant_configs', json_build_array(json_build_array(NEW.tenant_id, NULL, NULL))::text);
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE TRIGGER "verified_identities_inserted" AFTER INSERT ON "verified_identities" REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION "tenant_configs_changed"();--> statement-breakpoint
CREATE TRIGGER "verified_identities_updated" AFTER UPDATE ON "verified_identities" REFERENCING OLD TABLE AS former NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION "tenant_configs_changed"();--> statement-breakpoint
CREATE TRIGGER "verified_identities_removed" AFTER DELETE ON "verified_identities" REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION "tenant_configs_changed"();--> statement-breakpoint
CREATE TRIGGER "verified_identities_emptied" AFTER TRUNCATE ON "verified_identities" FOR EACH STATEMENT EXECUTE FUNCTION "tenant_configs_changed"();--> statement-breakpoint
ALTER TABLE "verified_identities" ENABLE ALWAYS TRIGGER "verified_identities_inserted", ENABLE ALWAYS TRIGGER "verified_identities_updated",
	ENABLE ALWAYS TRIGGER "verified_identities_removed", ENABLE ALWAYS TRIGGER "verified_identities_emptied";--> statement-breakpoint
CREATE TRIGGER "token_watch_changed" AFTER UPDATE OF "status" ON "token_watch" FOR EACH ROW
	WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION "token_watch_changed"();--> statement-breakpoint
ALTER TABLE "token_watch" ENABLE ALWAYS TRIGGER "token_watch_changed";
