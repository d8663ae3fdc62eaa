-- Locks tenant_configs and onboardings in SHARE ROW EXCLUSIVE mode: reads go on, writes wait until the commit, some milliseconds later.
CREATE TABLE "phone_callbacks" (
	"phone_number_id" varchar(255) PRIMARY KEY NOT NULL,
	"set_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "verified_identities" (
	"tenant_id" varchar(100) PRIMARY KEY NOT NULL,
	"waba_id" varchar(255) NOT NULL,
	"phone_number_id" varchar(255),
	"verified_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX "verified_identities_phone_number_id_key" ON "verified_identities" USING btree ("phone_number_id");--> statement-breakpoint
CREATE INDEX "verified_identities_waba_id_idx" ON "verified_identities" USING btree ("waba_id");--> statement-breakpoint
-- FROM CURRENT: the migration runner sets the search_path to the schema of our tables, with pg_temp last. SECURITY DEFINER: a role that
-- may write tenant_configs needs no rights on the tables that the triggers keep in step.
CREATE FUNCTION "verified_identities_follow"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	IF TG_OP = 'UPDATE' AND (OLD.tenant_id, OLD.waba_id, OLD.phone_number_id) IS DISTINCT FROM (NEW.tenant_id, NEW.waba_id, NEW.phone_number_id) THEN
		DELETE FROM verified_identities WHERE tenant_id = OLD.tenant_id;
		-- The watch verifies the new ones at its next check. A dead token proves nothing.
		UPDATE token_watch SET next_check_at = now()
		WHERE tenant_id = NEW.tenant_id AND NEW.is_active AND status NOT IN ('expired', 'revoked', 'reauth_required');
	END IF;
	-- A version before this migration, which may still serve, stores a confirmation in last_verified_at alone.
	IF NEW.last_verified_at IS NOT NULL AND NEW.waba_id IS NOT NULL THEN
		INSERT INTO verified_identities (tenant_id, waba_id, phone_number_id) VALUES (NEW.tenant_id, NEW.waba_id, NEW.phone_number_id)
		ON CONFLICT DO NOTHING;
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
-- A version before this migration stores what a callback was set for in the steps of an onboarding alone.
CREATE FUNCTION "phone_callbacks_follow"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
	former jsonb := jsonb_path_query_first(OLD.steps, '$[*] ? (@.name == "subscribe")');
	subscribed jsonb := jsonb_path_query_first(NEW.steps, '$[*] ? (@.name == "subscribe")');
BEGIN
	IF subscribed ->> 'status' = 'done' AND subscribed IS DISTINCT FROM former THEN
		IF subscribed -> 'evidence' ->> 'callback' = 'phone_number' THEN
			INSERT INTO phone_callbacks (phone_number_id) VALUES (NEW.phone_number_id) ON CONFLICT DO NOTHING;
		ELSE
			DELETE FROM phone_callbacks WHERE phone_number_id = NEW.phone_number_id;
		END IF;
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE OR REPLACE FUNCTION "tenant_configs_gone"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	IF TG_OP = 'TRUNCATE' THEN
		DELETE FROM token_watch;
		DELETE FROM verified_identities;
		UPDATE onboardings SET status = 'failed', access_token = NULL, holder = NULL WHERE status = 'in_progress' OR holder IS NOT NULL;
	ELSE
		DELETE FROM token_watch USING gone WHERE token_watch.tenant_id = gone.tenant_id;
		DELETE FROM verified_identities USING gone WHERE verified_identities.tenant_id = gone.tenant_id;
		UPDATE onboardings SET status = 'failed', access_token = NULL, holder = NULL FROM gone
		WHERE onboardings.tenant_id = gone.tenant_id AND (status = 'in_progress' OR holder IS NOT NULL);
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
-- A watch without a configuration, left by a load with the triggers off, says nothing about the new token.
CREATE OR REPLACE FUNCTION "token_watch_insert"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	INSERT INTO token_watch (tenant_id, next_check_at)
	SELECT tenant_id, CASE WHEN is_active THEN now() ELSE '9999-12-31Z' END FROM fresh WHERE access_token IS NOT NULL
	ON CONFLICT (tenant_id) DO UPDATE SET status = 'unverified', reason = NULL, checked_at = NULL, next_check_at = excluded.next_check_at;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE OR REPLACE FUNCTION "token_watch_update"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
	due timestamptz := CASE WHEN NEW.is_active THEN now() ELSE '9999-12-31Z' END;
BEGIN
	IF NEW.access_token IS NULL THEN
		DELETE FROM token_watch WHERE tenant_id = NEW.tenant_id;
	ELSIF NEW.access_token IS DISTINCT FROM OLD.access_token THEN
		INSERT INTO token_watch (tenant_id, next_check_at) VALUES (NEW.tenant_id, due)
		ON CONFLICT (tenant_id) DO UPDATE SET status = 'unverified', reason = NULL, checked_at = NULL, next_check_at = due;
	ELSE
		UPDATE token_watch SET next_check_at = due WHERE tenant_id = NEW.tenant_id;
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE OR REPLACE FUNCTION "tenant_configs_switched"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	-- Tokens of a tenant that is off are not checked; one check when it is turned on.
	UPDATE token_watch SET next_check_at = CASE WHEN NEW.is_active THEN now() ELSE '9999-12-31Z' END WHERE tenant_id = NEW.tenant_id;
	IF NOT NEW.is_active THEN
		UPDATE onboardings SET status = 'failed', access_token = NULL, holder = NULL
		WHERE tenant_id = NEW.tenant_id AND (status = 'in_progress' OR holder IS NOT NULL);
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
ALTER FUNCTION "tenant_configs_touch"() SET search_path FROM CURRENT;--> statement-breakpoint
-- Else anybody could make a trigger of them on a table of their own. Writers of our tables need no right to execute them.
REVOKE EXECUTE ON FUNCTION "tenant_configs_gone"(), "tenant_configs_switched"(), "token_watch_insert"(), "token_watch_update"(),
	"verified_identities_follow"(), "phone_callbacks_follow"() FROM PUBLIC;--> statement-breakpoint
CREATE TRIGGER "verified_identities_follow_insert" AFTER INSERT ON "tenant_configs" FOR EACH ROW
	WHEN (NEW.last_verified_at IS NOT NULL) EXECUTE FUNCTION "verified_identities_follow"();--> statement-breakpoint
CREATE TRIGGER "verified_identities_follow_update" AFTER UPDATE OF "tenant_id", "waba_id", "phone_number_id", "last_verified_at" ON "tenant_configs" FOR EACH ROW
	WHEN ((OLD.tenant_id, OLD.waba_id, OLD.phone_number_id, OLD.last_verified_at) IS DISTINCT FROM (NEW.tenant_id, NEW.waba_id, NEW.phone_number_id, NEW.last_verified_at))
	EXECUTE FUNCTION "verified_identities_follow"();--> statement-breakpoint
CREATE OR REPLACE TRIGGER "tenant_configs_switched" AFTER UPDATE OF "is_active" ON "tenant_configs" FOR EACH ROW
	WHEN (NOT NEW.is_active OR OLD.is_active IS DISTINCT FROM NEW.is_active) EXECUTE FUNCTION "tenant_configs_switched"();--> statement-breakpoint
ALTER TABLE "tenant_configs" ENABLE ALWAYS TRIGGER "tenant_configs_touch", ENABLE ALWAYS TRIGGER "tenant_configs_switched",
	ENABLE ALWAYS TRIGGER "tenant_configs_deleted", ENABLE ALWAYS TRIGGER "tenant_configs_truncated",
	ENABLE ALWAYS TRIGGER "token_watch_insert", ENABLE ALWAYS TRIGGER "token_watch_update",
	ENABLE ALWAYS TRIGGER "verified_identities_follow_insert", ENABLE ALWAYS TRIGGER "verified_identities_follow_update";--> statement-breakpoint
CREATE TRIGGER "phone_callbacks_follow" AFTER UPDATE OF "steps" ON "onboardings" FOR EACH ROW
	WHEN (NEW.phone_number_id IS NOT NULL) EXECUTE FUNCTION "phone_callbacks_follow"();--> statement-breakpoint
ALTER TABLE "onboardings" ENABLE ALWAYS TRIGGER "onboardings_touch", ENABLE ALWAYS TRIGGER "phone_callbacks_follow";
