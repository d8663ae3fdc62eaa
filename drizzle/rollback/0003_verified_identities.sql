ALTER TABLE "tenant_configs" ENABLE TRIGGER "tenant_configs_touch", ENABLE TRIGGER "tenant_configs_deleted", ENABLE TRIGGER "tenant_configs_truncated",
	ENABLE TRIGGER "token_watch_insert", ENABLE TRIGGER "token_watch_update";
--> statement-breakpoint
CREATE OR REPLACE TRIGGER "tenant_configs_switched" AFTER UPDATE OF "is_active" ON "tenant_configs" FOR EACH ROW
	WHEN (OLD.is_active IS DISTINCT FROM NEW.is_active) EXECUTE FUNCTION "tenant_configs_switched"();
--> statement-breakpoint
DROP TRIGGER "verified_identities_follow_insert" ON "tenant_configs";
--> statement-breakpoint
DROP TRIGGER "verified_identities_follow_update" ON "tenant_configs";
--> statement-breakpoint
ALTER FUNCTION "tenant_configs_touch"() RESET search_path;
--> statement-breakpoint
GRANT EXECUTE ON FUNCTION "tenant_configs_gone"(), "tenant_configs_switched"(), "token_watch_insert"(), "token_watch_update"() TO PUBLIC;
--> statement-breakpoint
CREATE OR REPLACE FUNCTION "tenant_configs_gone"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'TRUNCATE' THEN
		DELETE FROM token_watch;
		UPDATE onboardings SET status = 'failed', access_token = NULL, holder = NULL WHERE status = 'in_progress' OR holder IS NOT NULL;
	ELSE
		DELETE FROM token_watch USING gone WHERE token_watch.tenant_id = gone.tenant_id;
		UPDATE onboardings SET status = 'failed', access_token = NULL, holder = NULL FROM gone
		WHERE onboardings.tenant_id = gone.tenant_id AND (status = 'in_progress' OR holder IS NOT NULL);
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE OR REPLACE FUNCTION "token_watch_insert"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO token_watch (tenant_id) SELECT tenant_id FROM fresh WHERE access_token IS NOT NULL ON CONFLICT DO NOTHING;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE OR REPLACE FUNCTION "token_watch_update"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.access_token IS NULL THEN
		DELETE FROM token_watch WHERE tenant_id = NEW.tenant_id;
	ELSIF NEW.access_token IS DISTINCT FROM OLD.access_token THEN
		INSERT INTO token_watch (tenant_id) VALUES (NEW.tenant_id)
		ON CONFLICT (tenant_id) DO UPDATE SET status = 'unverified', reason = NULL, checked_at = NULL, next_check_at = now();
	ELSE
		UPDATE token_watch SET next_check_at = now() WHERE tenant_id = NEW.tenant_id;
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE OR REPLACE FUNCTION "tenant_configs_switched"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.is_active THEN
		UPDATE token_watch SET next_check_at = now() WHERE tenant_id = NEW.tenant_id;
	ELSE
		UPDATE onboardings SET status = 'failed', access_token = NULL, holder = NULL
		WHERE tenant_id = NEW.tenant_id AND (status = 'in_progress' OR holder IS NOT NULL);
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
UPDATE "token_watch" SET "next_check_at" = now() WHERE "next_check_at" = '9999-12-31Z';
--> statement-breakpoint
DROP TRIGGER "phone_callbacks_follow" ON "onboardings";
--> statement-breakpoint
ALTER TABLE "onboardings" ENABLE TRIGGER "onboardings_touch";
--> statement-breakpoint
DROP FUNCTION "phone_callbacks_follow"();
--> statement-breakpoint
DROP FUNCTION "verified_identities_follow"();
--> statement-breakpoint
DROP TABLE "verified_identities";
--> statement-breakpoint
DROP TABLE "phone_callbacks";
