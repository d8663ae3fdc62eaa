-- Locks events_outbox, onboardings and token_watch in ACCESS EXCLUSIVE mode until the commit, some milliseconds later.
-- All new columns are null or have a constant default, so that no row is rewritten.
CREATE TABLE "account_states" (
	"tenant_id" varchar(100) PRIMARY KEY NOT NULL,
	"status" varchar(9) DEFAULT 'ok' NOT NULL,
	"event" varchar(64),
	"reason" varchar(64),
	"initiated_by" varchar(64),
	"turned_off" boolean DEFAULT false NOT NULL,
	"acted_at" timestamp with time zone,
	"resume_at" timestamp with time zone
);--> statement-breakpoint
CREATE TABLE "events_ended" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"type" varchar(64) NOT NULL,
	"tenant_id" varchar(100) NOT NULL,
	"from" varchar(15) NOT NULL,
	"to" varchar(15) NOT NULL,
	"reason" varchar(64),
	"at" timestamp with time zone DEFAULT now() NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"state" varchar(9) NOT NULL,
	"last_status" integer,
	"ended_at" timestamp with time zone DEFAULT now() NOT NULL
);--> statement-breakpoint
CREATE TABLE "phone_numbers" (
	"tenant_id" varchar(100) PRIMARY KEY NOT NULL,
	"phone_number_id" varchar(255) NOT NULL,
	"display_phone_number" text,
	"verified_name" text,
	"is_on_biz_app" boolean,
	"platform_type" text,
	"quality_rating" text,
	"status" text,
	"number_status" varchar(11) DEFAULT 'unknown' NOT NULL,
	"reported" varchar(11),
	"told_at" timestamp with time zone DEFAULT now() NOT NULL
);--> statement-breakpoint
ALTER TABLE "events_outbox" ADD COLUMN "last_status" integer;--> statement-breakpoint
ALTER TABLE "events_outbox" ADD COLUMN "refusals" integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "onboardings" ADD COLUMN "chosen_waba_id" varchar(255);--> statement-breakpoint
ALTER TABLE "onboardings" ADD COLUMN "chosen_phone_number_id" varchar(255);--> statement-breakpoint
ALTER TABLE "onboardings" ADD COLUMN "former" jsonb;--> statement-breakpoint
ALTER TABLE "onboardings" ADD COLUMN "failing_since" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "onboardings" ADD COLUMN "retry_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "token_watch" ADD COLUMN "data_access_ends_at" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "token_watch" ADD COLUMN "is_deadline" boolean DEFAULT false NOT NULL;--> statement-breakpoint
CREATE INDEX "account_states_resume_idx" ON "account_states" USING btree ("resume_at") WHERE "account_states"."resume_at" is not null;--> statement-breakpoint
CREATE INDEX "events_ended_state_idx" ON "events_ended" USING btree ("state","at","id");--> statement-breakpoint
CREATE INDEX "events_ended_tenant_idx" ON "events_ended" USING btree ("tenant_id","state","at","id");--> statement-breakpoint
CREATE INDEX "events_ended_ended_at_idx" ON "events_ended" USING btree ("ended_at");--> statement-breakpoint
CREATE INDEX "phone_numbers_status_idx" ON "phone_numbers" USING btree ("number_status");--> statement-breakpoint
-- FROM CURRENT, SECURITY DEFINER and the rights: as in 0003.
CREATE OR REPLACE FUNCTION "verified_identities_follow"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	IF TG_OP = 'UPDATE' AND (OLD.tenant_id, OLD.waba_id, OLD.phone_number_id) IS DISTINCT FROM (NEW.tenant_id, NEW.waba_id, NEW.phone_number_id) THEN
		DELETE FROM verified_identities WHERE tenant_id = OLD.tenant_id;
		DELETE FROM phone_numbers WHERE tenant_id = OLD.tenant_id;
		-- The watch verifies the new ones at its next check. A dead token proves nothing.
		UPDATE token_watch SET next_check_at = now()
		WHERE tenant_id = NEW.tenant_id AND NEW.is_active AND status NOT IN ('expired', 'revoked', 'reauth_required');
	END IF;
	-- A version before 0003, which may still serve, stores a confirmation in last_verified_at alone.
	IF NEW.last_verified_at IS NOT NULL AND NEW.waba_id IS NOT NULL THEN
		INSERT INTO verified_identities (tenant_id, waba_id, phone_number_id) VALUES (NEW.tenant_id, NEW.waba_id, NEW.phone_number_id)
		ON CONFLICT DO NOTHING;
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
		DELETE FROM phone_numbers;
		DELETE FROM account_states;
		UPDATE onboardings SET status = 'failed', access_token = NULL, former = NULL, holder = NULL WHERE status = 'in_progress' OR holder IS NOT NULL;
	ELSE
		DELETE FROM token_watch USING gone WHERE token_watch.tenant_id = gone.tenant_id;
		DELETE FROM verified_identities USING gone WHERE verified_identities.tenant_id = gone.tenant_id;
		DELETE FROM phone_numbers USING gone WHERE phone_numbers.tenant_id = gone.tenant_id;
		DELETE FROM account_states USING gone WHERE account_states.tenant_id = gone.tenant_id;
		UPDATE onboardings SET status = 'failed', access_token = NULL, former = NULL, holder = NULL FROM gone
		WHERE onboardings.tenant_id = gone.tenant_id AND (status = 'in_progress' OR holder IS NOT NULL);
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE OR REPLACE FUNCTION "tenant_configs_switched"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	-- Tokens of a tenant that is off are not checked; one check when it is turned on.
	UPDATE token_watch SET next_check_at = CASE WHEN NEW.is_active THEN now() ELSE '9999-12-31Z' END WHERE tenant_id = NEW.tenant_id;
	-- Whoever turns a tenant on or off decides over an earlier account update. A suspension sets turned_off after this.
	UPDATE account_states SET turned_off = false, resume_at = NULL, status = CASE WHEN NEW.is_active THEN 'ok' ELSE status END
	WHERE tenant_id = NEW.tenant_id;
	IF NOT NEW.is_active THEN
		UPDATE onboardings SET status = 'failed', access_token = NULL, former = NULL, holder = NULL
		WHERE tenant_id = NEW.tenant_id AND (status = 'in_progress' OR holder IS NOT NULL);
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
-- A token that is to be warned of by now is checked before those without a date.
CREATE OR REPLACE FUNCTION "token_watch_insert"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	INSERT INTO token_watch (tenant_id, next_check_at, is_deadline)
	SELECT tenant_id, CASE WHEN is_active THEN now() ELSE '9999-12-31Z' END, coalesce(token_expires_at < now() + interval '14 days', false)
	FROM fresh WHERE access_token IS NOT NULL
	ON CONFLICT (tenant_id) DO UPDATE SET status = 'unverified', reason = NULL, checked_at = NULL, data_access_ends_at = NULL,
		next_check_at = excluded.next_check_at, is_deadline = excluded.is_deadline;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE OR REPLACE FUNCTION "token_watch_update"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
	due timestamptz := CASE WHEN NEW.is_active THEN now() ELSE '9999-12-31Z' END;
	nears_end boolean := coalesce(NEW.token_expires_at < now() + interval '14 days', false);
BEGIN
	IF NEW.access_token IS NULL THEN
		DELETE FROM token_watch WHERE tenant_id = NEW.tenant_id;
	ELSIF NEW.access_token IS DISTINCT FROM OLD.access_token THEN
		INSERT INTO token_watch (tenant_id, next_check_at, is_deadline) VALUES (NEW.tenant_id, due, nears_end)
		ON CONFLICT (tenant_id) DO UPDATE SET status = 'unverified', reason = NULL, checked_at = NULL, data_access_ends_at = NULL,
			next_check_at = due, is_deadline = nears_end;
	ELSE
		UPDATE token_watch SET next_check_at = due, is_deadline = nears_end WHERE tenant_id = NEW.tenant_id;
	END IF;
	RETURN NULL;
END
$$;
