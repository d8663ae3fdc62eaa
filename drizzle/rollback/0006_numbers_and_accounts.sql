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
CREATE OR REPLACE FUNCTION "verified_identities_follow"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
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
ALTER TABLE "token_watch" DROP COLUMN "is_deadline", DROP COLUMN "data_access_ends_at";
--> statement-breakpoint
ALTER TABLE "onboardings" DROP COLUMN "chosen_waba_id", DROP COLUMN "chosen_phone_number_id", DROP COLUMN "former", DROP COLUMN "failing_since",
	DROP COLUMN "retry_at";
--> statement-breakpoint
ALTER TABLE "events_outbox" DROP COLUMN "last_status", DROP COLUMN "refusals";
--> statement-breakpoint
DROP TABLE "account_states", "events_ended", "phone_numbers";
